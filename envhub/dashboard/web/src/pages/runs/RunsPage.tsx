import { useLive } from '../../api/live'
import { useApi } from '../../api/queries'
import { PageHead } from '../../shell/PageHead'
import { Link, navigate, runUrl } from '../../shell/router'
import { count } from '../../text/format'
import { Moment } from '../../ui/Facts'
import { Notice, Ready } from '../../ui/Notice'
import { StateBar } from './StateBar'

/** All runs of the store, the newest first. */
export function RunsPage() {
  useLive('/api/events')
  const asked = useApi('/api/runs', {})
  return (
    <>
      <PageHead title="Runs" />
      <Ready of={asked} what="runs">
        {(runs) =>
          runs.length === 0 ? (
            <Notice title="No run yet">
              <p>
                <code>envhub run</code> begins one.
              </p>
            </Notice>
          ) : (
            <div className="table-frame">
              <table>
                <caption className="hidden">Runs</caption>
                <thead>
                  <tr>
                    <th scope="col">Run</th>
                    <th scope="col">Started</th>
                    <th scope="col" className="number">
                      Members
                    </th>
                    <th scope="col">States</th>
                    <th scope="col">Conserved</th>
                  </tr>
                </thead>
                <tbody>
                  {runs.map((run) => (
                    <tr key={run.run_id} className="pick" onClick={() => navigate(runUrl(run.run_id))}>
                      <th scope="row">
                        <Link className="mono" href={runUrl(run.run_id)}>
                          {run.run_id}
                        </Link>
                      </th>
                      <td>
                        <Moment at={run.started_at} />
                      </td>
                      <td className="number">{count(run.submitted)}</td>
                      <td className="state-cell">
                        <StateBar states={run.by_state} bare />
                      </td>
                      <td className={run.conserved ? 'good' : 'bad'}>
                        {run.conserved ? (run.drained ? 'yes, drained' : 'yes') : 'no'}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )
        }
      </Ready>
    </>
  )
}
