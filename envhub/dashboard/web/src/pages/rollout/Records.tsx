import type { Rollout, RolloutRequest } from '../../api/types'
import { LongText, SafeText } from '../../text/SafeText'
import { Moment } from '../../ui/Facts'
import { Notice } from '../../ui/Notice'
import { Pictures } from './Pictures'

export function Failure({ failure }: { failure: NonNullable<Rollout['failure']> }) {
  return (
    <section className="failure" aria-label="Failure">
      <h2>
        Failed at the boundary “{failure.boundary}”{' '}
        <small>{failure.retryable ? 'may be retried' : 'is not retried'}</small>
      </h2>
      <LongText text={failure.message} mono />
    </section>
  )
}

/** What was asked for: the task as the environment got it. */
export function TaskView({ request }: { request: RolloutRequest | null }) {
  if (!request) return <Notice title="The store holds no request of this rollout" />
  const { task, environment, sampling, limits } = request
  return (
    <div className="grid">
      <section className="panel two-thirds task-view">
        <h2>Prompt</h2>
        {task.prompt.map((message, index) => (
          <div key={index}>
            <h3>{message.role}</h3>
            <LongText text={message.content} />
            <Pictures images={message.images} />
          </div>
        ))}
        <Json title="Answer" value={task.answer} />
        <Json title="Metadata" value={task.metadata} />
      </section>
      <section className="panel third task-view">
        <h2>Asked for</h2>
        <Json
          title="Who acts"
          value={{
            policy: request.policy_id,
            agent: request.agent,
            judge: request.judge,
            context: request.context,
            trainable: request.trainable,
          }}
        />
        <Json title="Environment" value={{ id: environment.id, ...environment.kwargs }} />
        <Json title="Sampling" value={sampling} />
        <Json title="Limits" value={limits} />
      </section>
    </div>
  )
}

function Json({ title, value }: { title: string; value: unknown }) {
  const nothing = value === null || (typeof value === 'object' && Object.keys(value as object).length === 0)
  if (nothing) return null
  return (
    <div>
      <h3>{title}</h3>
      <LongText text={typeof value === 'string' ? value : JSON.stringify(value, null, 2)} mono />
    </div>
  )
}

export function Logs({ logs }: { logs: Rollout['logs'] }) {
  if (logs.length === 0) return <Notice title="No log lines" />
  return (
    <div className="table-frame">
      <table className="logs">
        <caption className="hidden">Log lines, oldest first</caption>
        <thead>
          <tr>
            <th scope="col">Time</th>
            <th scope="col">Message</th>
            <th scope="col">Fields</th>
          </tr>
        </thead>
        <tbody>
          {logs.map((line, index) => (
            <tr key={index}>
              <td>
                <Moment at={line.at} />
              </td>
              <td className="log-message">
                <LongText text={line.message} />
              </td>
              <td className="log-fields">
                {Object.entries(line.fields).map(([name, value]) => (
                  <span key={name}>
                    {name}=
                    <b>
                      <SafeText text={(JSON.stringify(value) ?? '').slice(0, 2000)} />
                    </b>
                  </span>
                ))}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
