import { useMemo } from 'react'

import { useApi } from '../../../api/queries'
import type { CallDetail, DiffPart } from '../../../api/types'
import { usePlace } from '../../../shell/router'
import { count, duration, plural } from '../../../text/format'
import { LongText } from '../../../text/SafeText'
import { Copy } from '../../../ui/Copy'
import { Fact, Facts } from '../../../ui/Facts'
import { Notice, Ready } from '../../../ui/Notice'
import { Segmented } from '../../../ui/Segmented'
import { MessageBody } from '../Message'
import { Raw } from './Raw'

const VIEWS = [
  ['beside', 'Raw beside canonical'],
  ['diff', 'Diff to the call before'],
] as const
type View = (typeof VIEWS)[number][0]

export function CallView({ id, turn }: { id: string; turn: number }) {
  const place = usePlace()
  const view = VIEWS.find(([name]) => name === place.get('show'))?.[0] ?? 'beside'
  const asked = useApi('/api/rollouts/{rollout_id}/calls/{turn}', { rollout_id: id, turn }, { keep: true })
  return (
    <section className="call-view" aria-label={`Call of turn ${turn}`}>
      <Segmented<View>
        label="View of the call"
        options={VIEWS}
        value={view}
        onChange={(name) => place.set({ show: name === 'beside' ? '' : name })}
      />
      <Ready of={asked} what={`turn ${turn}`}>
        {(detail) => <Shown detail={detail} view={view} />}
      </Ready>
    </section>
  )
}

function Shown({ detail, view }: { detail: CallDetail; view: View }) {
  if (view === 'diff') return <Diff detail={detail} />
  return (
    <div className="beside">
      {detail.raw ? <Raw raw={detail.raw} /> : <Asked asked={detail.asked} />}
      <Canonical detail={detail} />
    </div>
  )
}

function Asked({ asked }: { asked: CallDetail['asked'] }) {
  const text = useMemo(() => JSON.stringify(asked, null, 2), [asked])
  const nothing = Object.keys(asked).length === 0
  return (
    <section className="panel">
      <div className="panel-head">
        <h2>
          As it was asked <small>what the caller wrote beside the messages</small>
        </h2>
        {!nothing && <Copy text={() => text} what="what was asked" />}
      </div>
      {nothing ? <p className="muted">Nothing.</p> : <LongText text={text} mono />}
      <p className="hint">
        The raw request and its answer were not kept: no program outside made this call, or the run goes without{' '}
        <code>--keep-calls</code>.
      </p>
    </section>
  )
}

function Canonical({ detail: { call, canonical } }: { detail: CallDetail }) {
  const older = canonical.messages.length - call.new_messages
  return (
    <section className="panel canonical">
      <h2>
        Canonical <small>{plural(canonical.messages.length, 'message')} in, one out</small>
      </h2>
      <Facts>
        <Fact name="took">
          {duration(call.ended_at - call.started_at)}
          {call.first_token_at > 0 && (
            <span className="muted">
              , first token after {duration(Math.max(0, call.first_token_at - call.started_at))}
            </span>
          )}
        </Fact>
        <Fact name="tokens">
          {count(call.prompt_tokens)} in, {count(call.sampled_tokens)} out, ended by {call.finish}
        </Fact>
        <Fact name="sampling">
          temperature {canonical.sampling.temperature}, at most {count(canonical.sampling.max_tokens)}
        </Fact>
        {canonical.tools.length > 0 && <Fact name="tools">{canonical.tools.join(', ')}</Fact>}
      </Facts>
      {older > 0 && <p className="muted earlier">{plural(older, 'message')} as in the calls before</p>}
      {canonical.messages.slice(older).map((message, n) => (
        <article key={n} className={`message ${message.role}`}>
          <h3>{message.role}</h3>
          <MessageBody message={message} />
        </article>
      ))}
      <article className="message assistant">
        <h3>assistant, sampled</h3>
        <MessageBody message={canonical.response} />
      </article>
    </section>
  )
}

function Diff({ detail: { previous, diff } }: { detail: CallDetail }) {
  if (previous === null) return <Notice title="This is the first call; there is none before it" />
  return (
    <section className="panel diff" aria-label={`What changed since turn ${previous}`}>
      <h2>
        Prompt <small>beside that of turn {previous}</small>
      </h2>
      {diff.map((part, n) => (
        <Part key={n} part={part} />
      ))}
    </section>
  )
}

function Part({ part: { kind, messages, count: equal } }: { part: DiffPart }) {
  if (kind === 'same') return <p className="diff-line muted">{plural(equal, 'equal message')}</p>
  return messages.map((message, n) => (
    <div key={n} className={`diff-line ${kind}`}>
      <b aria-label={kind}>{kind === 'added' ? '+' : '−'}</b>
      <div>
        <h3>{message.role}</h3>
        <MessageBody message={message} />
      </div>
    </div>
  ))
}
