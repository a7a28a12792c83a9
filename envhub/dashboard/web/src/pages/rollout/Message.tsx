import type { Message as MessageRecord, ToolCall } from '../../api/types'
import { plural } from '../../text/format'
import { LongText, SafeText } from '../../text/SafeText'
import { Pictures } from './Pictures'

export interface Shown {
  reasoning: boolean // opened, not behind a line that says how long it is
  calls: boolean
  raw: boolean // all text in one width
  find: string
}

export const ALL: Shown = { reasoning: false, calls: true, raw: false, find: '' }

/** What a message holds. Text that a model or a tool wrote is shown as text, whatever it looks like. */
export function MessageBody({ message, show = ALL }: { message: MessageRecord; show?: Shown }) {
  const { content, reasoning, tool_calls: calls, images } = message
  const found = show.find !== '' && reasoning.toLowerCase().includes(show.find.toLowerCase())
  const empty = !content && !reasoning && calls.length === 0 && images.length === 0
  return (
    <>
      {reasoning && (
        <details key={String(show.reasoning || found)} className="reasoning" open={show.reasoning || found}>
          <summary>Reasoning, {plural(reasoning.length, 'character')}</summary>
          <LongText text={reasoning} find={show.find} />
        </details>
      )}
      {content && <LongText text={content} mono={show.raw || message.role === 'tool'} find={show.find} />}
      <Pictures images={images} />
      {show.calls && calls.map((call, index) => <CallView key={index} call={call} find={show.find} />)}
      {!show.calls && calls.length > 0 && <p className="muted">{plural(calls.length, 'call')}, hidden</p>}
      {empty && <p className="muted">Empty.</p>}
    </>
  )
}

function CallView({ call, find }: { call: ToolCall; find: string }) {
  return (
    <section className="call" aria-label={`Call of ${call.name}`}>
      <h4>
        <code>
          <SafeText text={call.name} find={find} />
        </code>
        <small className="muted">{call.id}</small>
      </h4>
      {call.error ? (
        <p className="bad">
          Not a valid call: <SafeText text={call.error} />
        </p>
      ) : (
        <dl>
          {Object.entries(call.arguments).map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>
                <LongText text={typeof value === 'string' ? value : JSON.stringify(value, null, 2)} mono find={find} />
              </dd>
            </div>
          ))}
        </dl>
      )}
    </section>
  )
}

/** All that can be searched in a message, in lower case. */
export function textOf({ content, reasoning, tool_calls }: MessageRecord): string {
  const calls = tool_calls.map((call) => `${call.name} ${JSON.stringify(call.arguments)}`)
  return [reasoning, content, ...calls].join('\n').toLowerCase()
}
