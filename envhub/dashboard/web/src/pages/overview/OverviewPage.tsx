import { useLatest } from '../../api/live'
import { query } from '../../api/client'
import { useApi } from '../../api/queries'
import type { Overview } from '../../api/types'
import { Bars, Parts } from '../../charts/Bars'
import { LineChart } from '../../charts/LineChart'
import { VersionCharts } from '../../charts/VersionCharts'
import { Link, rolloutsUrl, runUrl, usePlace } from '../../shell/router'
import { PageHead } from '../../shell/PageHead'
import { brief, count, decimal, moment, plural } from '../../text/format'
import { Ready } from '../../ui/Notice'
import { RunChoice } from '../../ui/RunChoice'
import { Figure, Figures } from './Figures'
import { LivePanels } from './LivePanels'
import { SlowRollouts } from './SlowRollouts'

const WINDOW_S = 300 // that the rates are of

/** What a run does right now, and how it came there. */
export function OverviewPage() {
  const place = usePlace()
  const run = place.get('run')
  const asked = useApi('/api/overview', { run, window_s: WINDOW_S })
  const newest = useLatest<Overview>(`/api/overview/live${query({ run, window_s: WINDOW_S })}`, 'overview')
  return (
    <>
      <PageHead title="Overview" actions={<RunChoice value={run} onChange={(id) => place.set({ run: id })} />} />
      <Ready of={{ data: newest ?? asked.data, error: newest ? null : asked.error }} what="the overview">
        {(overview) => <Panels of={overview} />}
      </Ready>
    </>
  )
}

const PHASES: Record<string, string> = {
  engine: '--engine',
  tool: '--tool',
  judge: '--judge',
  children: '--environment',
  start: '--waiting',
  paused: '--state-paused',
}

const entries = (counts: Record<string, number>) => Object.entries(counts).sort(([, a], [, b]) => b - a)

/** The rate with the seconds in which nothing happened: a line past them would say that something did. */
function everySecond(rate: Overview['rate']): Overview['rate'] {
  const seen = new Map(rate.map((second) => [second.at, second]))
  const first = rate[0]?.at ?? 0
  const seconds = rate.length && Math.min(rate.at(-1)!.at - first + 1, WINDOW_S)
  return Array.from({ length: seconds }, (_, n) => seen.get(first + n) ?? { at: first + n, rollouts: 0, tokens: 0 })
}

function Panels({ of }: { of: Overview }) {
  const run = of.run_id ?? ''
  const rate = everySecond(of.rate)
  return (
    <>
      <Figures>
        <Figure
          name="Running"
          value={count(of.running)}
          note={<Link href={rolloutsUrl({ run, status: 'running' })}>in the list</Link>}
        />
        <Figure
          name="Rollouts a second"
          value={decimal(of.rollouts_per_s, 1)}
          values={rate.map((second) => second.rollouts)}
        />
        <Figure name="Tokens a second" value={brief(of.tokens_per_s)} values={rate.map((second) => second.tokens)} />
        <Figure name="Submitted" value={count(of.submitted)} note={run && <Link href={runUrl(run)}>{run}</Link>} />
      </Figures>
      <div className="grid">
        <section className="panel half">
          <h2>
            What they wait on <small>{plural(of.running, 'running rollout')}</small>
          </h2>
          {of.live === null ? (
            <p className="muted">Only the process that plays a run knows; this one looks at its records.</p>
          ) : (
            <Parts
              label="Running rollouts by what they wait on"
              items={Object.entries(PHASES).map(([name, color]) => ({ name, color, count: of.waiting[name] ?? 0 }))}
            />
          )}
        </section>
        <section className="panel half">
          <h2>
            Members <small>{count(of.submitted)} submitted</small>
          </h2>
          <Parts
            label="Members by state"
            items={Object.entries(of.members).map(([name, n]) => ({ name, count: n, color: `--state-${name}` }))}
          />
        </section>
        <VersionCharts versions={of.versions} />
        <section className="panel half">
          <h2>
            Speed <small>the last minutes</small>
          </h2>
          {rate.length === 0 ? (
            <p className="muted">No rollout ended in the last minutes.</p>
          ) : (
            <LineChart
              label="Rollouts a second"
              xs={rate.map((second) => second.at)}
              series={[
                { name: 'rollouts a second', color: '--accent', values: rate.map((second) => second.rollouts) },
              ]}
              xText={moment}
              yText={(value) => decimal(value, 1)}
              from={0}
            />
          )}
        </section>
        <section className="panel half">
          <h2>
            Staleness <small>versions behind when they ended</small>
          </h2>
          <Bars
            items={Object.entries(of.staleness).map(([age, n]) => ({
              name: age === '0' ? 'none' : plural(Number(age), 'version'),
              count: n,
            }))}
          />
        </section>
        <section className="panel half">
          <h2>Outcomes</h2>
          <Bars
            items={entries(of.outcomes).map(([name, n]) => ({
              name,
              count: n,
              href: rolloutsUrl({ run, status: name }),
              color: { completed: '--good', truncated: '--warn', failed: '--bad' }[name] ?? '--idle',
            }))}
          />
        </section>
        <section className="panel half">
          <h2>
            Failures <small>by boundary</small>
          </h2>
          <Bars
            empty="No rollout failed."
            items={entries(of.boundaries).map(([name, n]) => ({
              name,
              count: n,
              color: '--bad',
              href: rolloutsUrl({ run, boundary: name }),
            }))}
          />
        </section>
        {of.live && <LivePanels of={of.live} />}
        <SlowRollouts rollouts={of.slow} />
      </div>
    </>
  )
}
