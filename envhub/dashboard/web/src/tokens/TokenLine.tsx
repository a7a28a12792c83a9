import { memo } from 'react'

import { count } from '../format'
import { spanAt, surprise, type Columns } from './columns'
import type { Line, Part } from './layout'

interface Props {
  columns: Columns
  line: Line
  active: number | null // the token under the pointer or the keyboard, where it lies on this line
}

export const TokenLine = memo(function TokenLine({ columns, line, active }: Props) {
  return (
    <>
      <span className="gutter">
        <small>{startingLabel(columns, line)}</small>
        {count(line.first)}
      </span>
      <span className="line-text">
        {line.parts.map((part, index) => (
          <span key={index} className={look(columns, part, part.token === active)} data-token={part.token}>
            <Glyphs part={part} />
          </span>
        ))}
      </span>
    </>
  )
})

/** What begins on this line. A span of context may hold messages of several roles, so it is called just that. */
function startingLabel(columns: Columns, line: Line): string {
  const last = line.parts.at(-1)!.token
  const span = spanAt(columns, last)
  const before = span.start > 0 ? spanAt(columns, span.start - 1) : undefined
  const begins = span.start >= line.first && line.parts.some((part) => part.token === span.start)
  if (!begins || (before && before.role === span.role && before.turn === span.turn)) return ''
  return span.sampled ? `turn ${span.turn}` : 'context'
}

function look(columns: Columns, part: Part, active: boolean): string {
  const span = spanAt(columns, part.token)
  const logprob = columns.logprobs[part.token] ?? null
  const colour = span.sampled && logprob !== null ? `p${surprise(logprob)}` : 'context'
  return ['t', colour, span.sampled && !span.trainable && 'frozen', active && 'active'].filter(Boolean).join(' ')
}

/** Spaces stay real spaces, for copying; a dot is drawn on them. */
function Glyphs({ part }: { part: Part }) {
  if (part.mark) return <i className={part.mark}>{part.mark === 'newline' || part.mark === 'tab' ? '' : part.text}</i>
  if (!part.text.includes(' ')) return part.text
  return part.text.split(/( +)/).map((run, index) =>
    run.startsWith(' ') ? (
      <i key={index} className="space">
        {run}
      </i>
    ) : (
      run
    ),
  )
}
