import { useLive } from '../../api/live'
import { query } from '../../api/client'
import { useApi } from '../../api/queries'
import type { RunDetail } from '../../api/types'
import { PageHead } from '../../shell/PageHead'
import { environmentUrl, Link, rolloutsUrl } from '../../shell/router'
import { count, plural, versions } from '../../text/format'
import { LongText } from '../../text/SafeText'
import { oneLine } from '../../text/visible'
import { Fact, Facts, Moment } from '../../ui/Facts'
import { Ready } from '../../ui/Notice'
import { Controls } from './Controls'
import { Findings } from './Findings'
import { StateBar } from './StateBar'

/** One run: whether it adds up, what was found, and the operator's hands on it. */
export function RunPage({ id }: { id: string }) {
  useLive('/api/events')
  const asked = useApi('/api/runs/{run_id}', { run_id: id })
  const session = useApi('/api/session', {})
  return (
    <Ready of={asked} what={`run ${id}`}>
      {(detail) => (
        <>
          <PageHead
            title={id}
            crumbs={[['Runs', '/runs']]}
            beside={
              <span className={`chip ${session.data?.live_run === id ? 'running' : ''}`}>
                {session.data?.live_run === id ? 'live' : 'recorded'}
              </span>
            }
            actions={
              <>
                <Link className="action" href={`/overview${query({ run: id })}`}>
                  Overview
                </Link>
                <Link className="action" href={rolloutsUrl({ run: id })}>
                  Rollouts
                </Link>
              </>
            }
          />
          {session.data && <Controls detail={detail} session={session.data} />}
          <Panels detail={detail} />
          <Findings run={id} />
          <Acts run={id} />
        </>
      )}
    </Ready>
  )
}

function Panels({ detail }: { detail: RunDetail }) {
  const { run } = detail
  return (
    <div className="grid">
      <section className="panel">
        <h2>
          Members{' '}
          <small className={run.conserved ? 'good' : 'bad'}>
            {run.conserved ? 'each is in exactly one state' : 'they do not add up'}
          </small>
        </h2>
        <StateBar states={run.by_state} />
        <p className="hint mono">{run.equation}</p>
      </section>
      <section className="panel half">
        <h2>Facts</h2>
        <Facts>
          <Fact name="started">
            <Moment at={run.started_at} />
          </Fact>
          <Fact name="last event">{detail.last_event_at === null ? '–' : <Moment at={detail.last_event_at} />}</Fact>
          <Fact name="seed">
            <code>{run.seed}</code>
          </Fact>
          <Fact name="rollouts">
            {count(detail.rollouts)} <span className="muted">in {plural(detail.groups, 'group')}</span>
          </Fact>
          <Fact name="versions">
            {detail.versions.length > 0 ? versions(Math.min(...detail.versions), Math.max(...detail.versions)) : '–'}
          </Fact>
          <Fact name="policies">{detail.policies.map((policy) => oneLine(policy, 40)).join(', ')}</Fact>
          <Fact name="environments">
            {detail.environments.map((environment) => (
              <Link key={environment} className="listed" href={environmentUrl(environment, run.run_id)}>
                {oneLine(environment, 60)}
              </Link>
            ))}
          </Fact>
        </Facts>
      </section>
      <section className="panel half">
        <h2>Settings</h2>
        <LongText text={JSON.stringify(detail.settings, null, 2)} mono />
      </section>
    </div>
  )
}

function Acts({ run }: { run: string }) {
  const { data } = useApi('/api/runs/{run_id}/audit', { run_id: run })
  if (!data || data.length === 0) return null
  return (
    <section className="panel below">
      <h2>
        Acts of operators <small>{count(data.length)}</small>
      </h2>
      <div className="table-frame">
        <table>
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">Who</th>
              <th scope="col">From</th>
              <th scope="col">Act</th>
              <th scope="col">With</th>
            </tr>
          </thead>
          <tbody>
            {data.map((act, n) => (
              <tr key={n}>
                <td>
                  <Moment at={act.at} />
                </td>
                <td>
                  {oneLine(act.operator, 60)}{' '}
                  {act.role !== '' && act.role !== act.operator && <small className="muted">{act.role}</small>}
                </td>
                <td>{oneLine([act.via, act.address].filter(Boolean).join(', '), 60)}</td>
                <td>
                  {oneLine(act.action, 60)}{' '}
                  {act.refused && <span className="bad">refused: {oneLine(act.refused)}</span>}
                </td>
                <td className="mono message-cell">{oneLine(JSON.stringify(act.detail), 300)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  )
}
