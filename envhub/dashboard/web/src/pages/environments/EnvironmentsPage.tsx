import { REPORT_MS, useLive } from '../../api/live'
import { useApi } from '../../api/queries'
import { PageHead } from '../../shell/PageHead'
import { environmentUrl, Link, navigate, usePlace } from '../../shell/router'
import { brief, count, duration, mean, share } from '../../text/format'
import { oneLine } from '../../text/visible'
import { Reward } from '../../ui/Facts'
import { Notice, Ready } from '../../ui/Notice'
import { RunChoice } from '../../ui/RunChoice'

/** Every environment that rollouts were played in. */
export function EnvironmentsPage() {
  const place = usePlace()
  const run = place.get('run')
  useLive('/api/events', REPORT_MS)
  const asked = useApi('/api/environments/summary', { run })
  return (
    <>
      <PageHead
        title="Environments"
        actions={<RunChoice all="All runs" value={run} onChange={(id) => place.set({ run: id })} />}
      />
      <Ready of={asked} what="environments">
        {(environments) =>
          environments.length === 0 ? (
            <Notice title="No rollout has been played yet" />
          ) : (
            <div className="table-frame">
              <table>
                <caption className="hidden">Environments</caption>
                <thead>
                  <tr>
                    <th scope="col">Environment</th>
                    {[
                      'Rollouts',
                      'Groups',
                      'Reward',
                      'Pass rate',
                      'Failed',
                      'Truncated',
                      'Tokens',
                      'Turns',
                      'Duration',
                    ].map((name) => (
                      <th key={name} scope="col" className="number">
                        {name}
                      </th>
                    ))}
                  </tr>
                </thead>
                <tbody>
                  {environments.map((one) => (
                    <tr
                      key={one.environment}
                      className="pick"
                      onClick={() => navigate(environmentUrl(one.environment, run))}
                    >
                      <th scope="row">
                        <Link href={environmentUrl(one.environment, run)}>{oneLine(one.environment, 80)}</Link>
                      </th>
                      <td className="number">{count(one.rollouts)}</td>
                      <td className="number">{count(one.groups)}</td>
                      <td className="number">
                        <Reward value={one.mean_reward} write={mean} />
                      </td>
                      <td className="number">{one.pass_rate === null ? '–' : share(one.pass_rate)}</td>
                      <td className="number">{count(one.failed)}</td>
                      <td className="number">{count(one.truncated)}</td>
                      <td className="number">{brief(one.mean_tokens)}</td>
                      <td className="number">{one.mean_turns.toFixed(1)}</td>
                      <td className="number">{one.mean_duration_s === null ? '–' : duration(one.mean_duration_s)}</td>
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
