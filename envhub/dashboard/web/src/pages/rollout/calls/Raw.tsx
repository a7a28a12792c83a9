import { useMemo } from 'react'

import type { RawExchange } from '../../../api/types'
import { plural } from '../../../text/format'
import { LongText, SafeText } from '../../../text/SafeText'
import { Copy } from '../../../ui/Copy'

/** What went over the wire, in the words of the caller's dialect. */
export function Raw({ raw }: { raw: RawExchange }) {
  return (
    <section className="panel raw" aria-label="Raw">
      <div className="panel-head">
        <h2>
          Raw <small>as it went over the wire, without secrets</small>
        </h2>
      </div>
      {raw.note && <p className="banner">{raw.note}</p>}
      <Half title={`${raw.method} ${raw.path}`} headers={raw.request_headers} body={raw.request_body} what="request" />
      <Half
        title={raw.status === 0 ? 'No answer began' : `Answer ${raw.status}`}
        headers={raw.response_headers}
        body={raw.response_body}
        what="answer"
      />
    </section>
  )
}

interface HalfProps {
  title: string
  headers: Record<string, string>
  body: string
  what: string
}

function Half({ title, headers, body, what }: HalfProps) {
  const text = useMemo(() => indented(body), [body])
  return (
    <section aria-label={`The ${what}`}>
      <h3>
        <code>
          <SafeText text={title} />
        </code>
        {body && <Copy text={() => body} what={`the ${what}`} />}
      </h3>
      <details>
        <summary>{plural(Object.keys(headers).length, 'header')}</summary>
        <dl>
          {Object.entries(headers).map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>
                <SafeText text={value} />
              </dd>
            </div>
          ))}
        </dl>
      </details>
      {body ? <LongText text={text} mono /> : <p className="muted">No body.</p>}
    </section>
  )
}

/** JSON with line breaks; what is none, a stream's events among it, as it is. */
function indented(body: string): string {
  try {
    return JSON.stringify(JSON.parse(body), null, 2)
  } catch {
    return body
  }
}
