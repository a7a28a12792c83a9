import { useLive } from '../../api/live'
import { useApi } from '../../api/queries'
import { useKeys } from '../../shell/keys'
import { PageHead } from '../../shell/PageHead'
import { groupUrl, Link, navigate, taskUrl, usePlace } from '../../shell/router'
import { mean, plural } from '../../text/format'
import { oneLine } from '../../text/visible'
import { Reward } from '../../ui/Facts'
import { Notice, Ready } from '../../ui/Notice'
import { RunChoice } from '../../ui/RunChoice'
import { Rewards } from './Rewards'

const LIMIT = 50

/** All groups of a run, the newest first. */
export function GroupsPage() {
  const place = usePlace()
  const run = place.get('run')
  const environment = place.get('environment')
  const task = place.get('task')
  useLive('/api/events')
  const asked = useApi(
    '/api/groups',
    { run, environment: environment ? [environment] : [], task, limit: LIMIT, cursor: place.get('cursor') },
    { keep: true },
  )
  const environments = useApi('/api/environments', { run })
  useKeys('Groups', [
    {
      keys: 'n',
      does: 'Next page',
      run: () => asked.data?.next_cursor && navigate(place.with({ cursor: asked.data.next_cursor })),
    },
  ])
  return (
    <>
      <PageHead
        title="Groups"
        actions={<RunChoice all="All runs" value={run} onChange={(id) => place.set({ run: id, cursor: '' })} />}
      >
        The members of one task, side by side
      </PageHead>
      <form className="filters" role="search" aria-label="Filter groups" onSubmit={(event) => event.preventDefault()}>
        <select
          aria-label="Environment"
          value={environment}
          onChange={(event) => place.set({ environment: event.target.value, task: '', cursor: '' })}
        >
          <option value="">All environments</option>
          {(environments.data ?? []).map((id) => (
            <option key={id}>{id}</option>
          ))}
        </select>
        {task && (
          <button type="button" onClick={() => place.set({ task: '', cursor: '' })}>
            task {oneLine(task, 60)} ✕
          </button>
        )}
      </form>
      <Ready of={asked} what="groups">
        {(page) =>
          page.groups.length === 0 ? (
            <Notice title="No group matches" />
          ) : (
            <>
              <div className="table-frame">
                <table>
                  <caption className="hidden">Groups</caption>
                  <thead>
                    <tr>
                      <th scope="col">Group</th>
                      <th scope="col">Environment</th>
                      <th scope="col">Task</th>
                      <th scope="col">Rewards</th>
                      <th scope="col" className="number">
                        Mean
                      </th>
                      <th scope="col" className="number">
                        Deviation
                      </th>
                      <th scope="col">State</th>
                      <th scope="col" className="number">
                        Deliveries
                      </th>
                    </tr>
                  </thead>
                  <tbody>
                    {page.groups.map(({ group, rewards, mean: reward, std }) => (
                      <tr key={group.group_id} className="pick" onClick={() => navigate(groupUrl(group.group_id))}>
                        <th scope="row">
                          <Link className="mono" href={groupUrl(group.group_id)}>
                            {group.group_id}
                          </Link>
                        </th>
                        <td>{oneLine(group.environment, 60)}</td>
                        <td>
                          <Link href={taskUrl(group.environment, group.task_id, group.run_id)}>
                            {oneLine(group.task_id, 60)}
                          </Link>
                        </td>
                        <td>
                          <Rewards rewards={rewards} />
                        </td>
                        <td className="number">
                          <Reward value={reward} write={mean} />
                        </td>
                        <td className="number">{std === null ? '–' : mean(std)}</td>
                        <td className="muted">{group.closed ? 'closed' : 'open'}</td>
                        <td className="number">{group.deliveries}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
              <div className="list-foot">
                <span role="status">{plural(page.total, 'group')}</span>
                {place.get('cursor') && <button onClick={() => history.back()}>Newer</button>}
                <button disabled={!page.next_cursor} onClick={() => navigate(place.with({ cursor: page.next_cursor }))}>
                  Next page
                </button>
              </div>
            </>
          )
        }
      </Ready>
    </>
  )
}
