import { count, percent } from '../text/format'
import { spanAt, type Columns } from './columns'
import { literal } from './layout'

/** All that is known of one token. */
export function TokenCard({ columns, token }: { columns: Columns; token: number }) {
  const span = spanAt(columns, token)
  const logprob = columns.logprobs[token] ?? null
  const piece = columns.pieces?.[token]
  return (
    <>
      <p className="token-text">
        {piece === undefined ? 'no tokenizer' : piece ? literal(piece) : 'bytes of the character that follows'}
      </p>
      <dl>
        <Entry name="id" value={String(columns.ids[token])} />
        <Entry name="position" value={count(token)} />
        {logprob !== null && <Entry name="logprob" value={`${logprob.toFixed(4).replace('-', '−')} nats`} />}
        {logprob !== null && <Entry name="probability" value={percent(logprob)} />}
        <Entry name="role" value={span.role} />
        <Entry name="sampled" value={span.sampled ? 'yes' : 'no, context'} />
        {span.sampled && <Entry name="trainable" value={span.trainable ? 'yes' : 'no'} />}
        {span.sampled && <Entry name="policy" value={`${span.policy_id} v${span.policy_version}`} />}
        {span.sampled && <Entry name="temperature" value={String(span.temperature)} />}
        {span.turn >= 0 && <Entry name="turn" value={String(span.turn)} />}
      </dl>
    </>
  )
}

function Entry({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  )
}
