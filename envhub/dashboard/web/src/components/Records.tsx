import type { Rollout, RolloutRequest } from '../types'
import { Moment } from './Facts'
import { Notice } from './Notice'
import { LongText } from './Transcript'

/** What was asked for: the task as the environment got it. */
export function TaskView({ request }: { request: RolloutRequest | null }) {
  if (!request) return <Notice title="The store holds no request of this rollout" />
  const { task, environment } = request
  return (
    <section className="panel task-view">
      <h2>{task.id}</h2>
      {task.prompt.map((message, index) => (
        <div key={index}>
          <h3>{message.role}</h3>
          <LongText text={message.content} />
        </div>
      ))}
      <Json title="Answer" value={task.answer} />
      <Json title="Metadata" value={task.metadata} />
      <Json title="Environment arguments" value={environment.kwargs} />
    </section>
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
    <div className="scroll-x">
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
              <td>{line.message}</td>
              <td className="fields">
                {Object.entries(line.fields).map(([name, value]) => (
                  <span key={name}>
                    {name}=<b>{typeof value === 'string' ? value : JSON.stringify(value)}</b>
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
