import type { SlowRollout } from '../../api/types'
import { Link, rolloutUrl } from '../../shell/router'
import { duration } from '../../text/format'
import { oneLine } from '../../text/visible'

/** Those that run for longest; what is far over the usual is stuck. */
export function SlowRollouts({ rollouts }: { rollouts: SlowRollout[] }) {
  return (
    <section className="panel">
      <h2>
        Slow and stuck <small>of those that run, the longest first</small>
      </h2>
      {rollouts.length === 0 ? (
        <p className="muted">Nothing runs.</p>
      ) : (
        <div className="table-frame">
          <table>
            <thead>
              <tr>
                <th scope="col">Rollout</th>
                <th scope="col">Environment</th>
                <th scope="col">Waits on</th>
                <th scope="col" className="number">
                  For
                </th>
                <th scope="col" className="number">
                  99 % need at most
                </th>
              </tr>
            </thead>
            <tbody>
              {rollouts.map(({ rollout, waiting, seconds, typical_s, stuck }) => (
                <tr key={rollout.rollout_id}>
                  <th scope="row">
                    <Link className="mono" href={rolloutUrl(rollout.rollout_id, 'timeline')}>
                      {rollout.rollout_id}
                    </Link>
                  </th>
                  <td>{oneLine(rollout.environment, 40)}</td>
                  <td>{waiting ?? <span className="muted">unknown</span>}</td>
                  <td className="number">
                    {stuck && <span className="chip error">stuck</span>} {duration(seconds)}
                  </td>
                  <td className="number muted">{typical_s === null ? '–' : duration(typical_s)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  )
}
