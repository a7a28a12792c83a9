import { REPORT_MS, useLive } from '../../api/live'
import { useApi } from '../../api/queries'
import type { EnvironmentReport } from '../../api/types'
import { Bars, Histogram } from '../../charts/Bars'
import { HeatMap } from '../../charts/HeatMap'
import { TroubleChart, VersionCharts } from '../../charts/VersionCharts'
import { PageHead } from '../../shell/PageHead'
import { Link, rolloutsUrl, rolloutUrl, taskUrl, usePlace } from '../../shell/router'
import { count, decimal, share } from '../../text/format'
import { oneLine } from '../../text/visible'
import { Ready } from '../../ui/Notice'
import { RunChoice } from '../../ui/RunChoice'
import { PassAt } from './PassAt'

/** How one environment is learned, where it fails, and whether its judges agree. */
export function EnvironmentPage({ id }: { id: string }) {
  const place = usePlace()
  const run = place.get('run')
  const passAt = Number(place.get('pass_at')) || 1
  useLive('/api/events', REPORT_MS)
  const asked = useApi('/api/environments/report', { environment: [id], run, pass_at: passAt }, { keep: true })
  return (
    <>
      <PageHead
        title={oneLine(id)}
        crumbs={[['Environments', '/environments']]}
        actions={
          <>
            <PassAt value={passAt} onChange={(value) => place.set({ pass_at: value })} />
            <RunChoice all="All runs" value={run} onChange={(chosen) => place.set({ run: chosen })} />
            <Link className="action" href={rolloutsUrl({ environment: id, run })}>
              Rollouts
            </Link>
          </>
        }
      />
      <Ready of={asked} what={`the report of ${id}`}>
        {(report) => <Report report={report} run={run} />}
      </Ready>
    </>
  )
}

function Report({ report, run }: { report: EnvironmentReport; run: string }) {
  const { heat, versions, failures } = report
  const { environment } = report.figures
  return (
    <div className="grid">
      <VersionCharts versions={versions} />
      <section className="panel half">
        <h2>
          Trouble <small>share of rollouts by version</small>
        </h2>
        <TroubleChart versions={versions} />
      </section>
      <section className="panel half">
        <h2>Rewards</h2>
        <Histogram label="Rollouts by reward" of={report.reward} color="--tool" />
      </section>
      <section className="panel">
        <h2>
          Pass rate <small>of each task over policy versions; a task leads to its page</small>
        </h2>
        <HeatMap
          label={`Pass rate of the tasks of ${environment}`}
          rows={heat.tasks}
          columns={heat.versions}
          values={heat.pass_rate}
          href={(task) => taskUrl(environment, task, run)}
        />
        {heat.total_tasks > heat.tasks.length && (
          <p className="hint">
            {count(heat.tasks.length)} of {count(heat.total_tasks)} tasks.
          </p>
        )}
      </section>
      <section className="panel two-thirds">
        <h2>Failures</h2>
        {failures.length === 0 ? (
          <p className="muted">None.</p>
        ) : (
          <div className="table-frame">
            <table>
              <thead>
                <tr>
                  <th scope="col">Boundary</th>
                  <th scope="col">Message</th>
                  <th scope="col" className="number">
                    Count
                  </th>
                </tr>
              </thead>
              <tbody>
                {failures.map((failure) => (
                  <tr key={failure.boundary + failure.message}>
                    <td>
                      <Link href={rolloutsUrl({ environment, run, boundary: failure.boundary })}>
                        {failure.boundary}
                      </Link>
                    </td>
                    <td className="message-cell">
                      <Link href={rolloutUrl(failure.example)}>{oneLine(failure.message, 160)}</Link>
                    </td>
                    <td className="number">{count(failure.count)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </section>
      <section className="panel third">
        <h2>Cut short by</h2>
        <Bars
          empty="None was truncated."
          items={Object.entries(report.truncated).map(([name, n]) => ({
            name: oneLine(name, 30),
            count: n,
            color: '--warn',
          }))}
        />
      </section>
      <Agreement judges={report.judges} />
    </div>
  )
}

function Agreement({ judges }: { judges: EnvironmentReport['judges'] }) {
  if (judges.length === 0) return null
  return (
    <section className="panel">
      <h2>
        Judges <small>whether two parts of the score say the same of a rollout</small>
      </h2>
      <div className="table-frame">
        <table>
          <thead>
            <tr>
              <th scope="col">One</th>
              <th scope="col">Other</th>
              <th scope="col" className="number">
                Rollouts
              </th>
              <th scope="col" className="number">
                Agree
              </th>
              <th scope="col" className="number">
                Correlation
              </th>
            </tr>
          </thead>
          <tbody>
            {judges.map((pair) => (
              <tr key={`${pair.a} ${pair.b}`}>
                <td>{oneLine(pair.a, 40)}</td>
                <td>{oneLine(pair.b, 40)}</td>
                <td className="number">{count(pair.rollouts)}</td>
                <td className="number">{share(pair.agreement)}</td>
                <td className="number">{pair.correlation === null ? '–' : decimal(pair.correlation, 2)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  )
}
