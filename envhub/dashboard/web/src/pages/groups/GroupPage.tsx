import { useLive } from '../../api/live'
import { useApi } from '../../api/queries'
import type { GroupDetail } from '../../api/types'
import { PageHead } from '../../shell/PageHead'
import { environmentUrl, rolloutsUrl, taskUrl } from '../../shell/router'
import { count, decimal, plural } from '../../text/format'
import { oneLine } from '../../text/visible'
import { Moment, Reward } from '../../ui/Facts'
import { Notice, Ready } from '../../ui/Notice'
import { MessageBody } from '../rollout/Message'
import { MemberColumn } from './MemberColumn'
import { Rewards } from './Rewards'

/** The K members of a task side by side: what each was worth, and where they go apart. */
export function GroupPage({ id }: { id: string }) {
  useLive('/api/events')
  const asked = useApi('/api/groups/{group_id}', { group_id: id })
  return (
    <Ready of={asked} what={`group ${id}`}>
      {(detail) => <View detail={detail} />}
    </Ready>
  )
}

function View({ detail }: { detail: GroupDetail }) {
  const { group: record, members } = detail
  const { group } = record
  const apart = Math.min(...members.map((member) => member.diverges_at))
  const shared = members.find((member) => member.transcript.length >= apart)?.transcript.slice(0, apart) ?? []
  return (
    <>
      <PageHead
        title={group.group_id}
        crumbs={[
          [group.run_id, rolloutsUrl({ run: group.run_id })],
          [oneLine(group.environment), environmentUrl(group.environment, group.run_id)],
          [oneLine(group.task_id, 60), taskUrl(group.environment, group.task_id, group.run_id)],
        ]}
        beside={<span className={`chip ${group.closed ? 'ok' : 'info'}`}>{group.closed ? 'closed' : 'open'}</span>}
      >
        {plural(members.length, 'member')}, mean reward <Reward value={record.mean} />
        {record.std !== null && ` ± ${decimal(record.std)}`} <Rewards rewards={record.rewards} />
      </PageHead>
      {detail.dropped && <p className="banner">Dropped: {oneLine(detail.dropped)}</p>}
      {shared.length > 0 && (
        <details className="panel shared">
          <summary>
            All begin with the same {shared.length === 1 ? 'message' : plural(shared.length, 'message')}
          </summary>
          {shared.map(({ message }, n) => (
            <article key={n} className={`message ${message.role}`}>
              <h3>{message.role}</h3>
              <MessageBody message={message} />
            </article>
          ))}
        </details>
      )}
      <div className="members" tabIndex={0} role="group" aria-label="Members, side by side">
        {members.map((member) => (
          <MemberColumn key={member.member} member={member} apart={apart} />
        ))}
      </div>
      <Deliveries deliveries={detail.deliveries} />
    </>
  )
}

function Deliveries({ deliveries }: { deliveries: GroupDetail['deliveries'] }) {
  if (deliveries.length === 0) return <Notice title="No trainer has had it so far" />
  return (
    <section className="panel">
      <h2>
        Deliveries <small>{count(deliveries.length)}</small>
      </h2>
      <div className="table-frame">
        <table>
          <thead>
            <tr>
              <th scope="col">Lease</th>
              <th scope="col">Consumer</th>
              <th scope="col">Leased</th>
              <th scope="col">Deadline</th>
              <th scope="col">Ended</th>
            </tr>
          </thead>
          <tbody>
            {deliveries.map((delivery) => (
              <tr key={delivery.lease_id}>
                <th scope="row" className="mono">
                  {delivery.lease_id}
                </th>
                <td>{oneLine(delivery.consumer, 60)}</td>
                <td>
                  <Moment at={delivery.at} />
                </td>
                <td>
                  <Moment at={delivery.deadline} />
                </td>
                <td>
                  {delivery.ended ? oneLine(delivery.ended, 60) : 'is leased'}{' '}
                  {delivery.ended_at !== null && <Moment at={delivery.ended_at} />}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  )
}
