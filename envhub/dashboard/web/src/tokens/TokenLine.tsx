import { memo, useMemo } from 'react'

import { count } from '../text/format'
import { colorOf, toneOf, type Mode } from './colors'
import { spanAt, type Columns } from './columns'
import { PLAIN, type Line, type Part } from './layout'

interface Props {
  columns: Columns
  line: Line
  perLine: number
  mode: Mode
  active: number | null // the token under the pointer or the keyboard, where it lies on this line
}

/** A line as text in one piece, on a picture of its tokens: an element a token would be too many to scroll through. */
export const TokenLine = memo(function TokenLine({ columns, line, perLine, mode, active }: Props) {
  const paths = useMemo(() => fills(columns, line, mode), [columns.ids, line, line.parts.length, mode])
  const runs = useMemo(() => tones(columns, line, mode), [columns.ids, line, line.parts.length, mode])
  return (
    <>
      <span className="gutter">
        <small>{startingLabel(columns, line)}</small>
        {count(line.first)}
      </span>
      <span className="line-text" data-spaces={spacesOf(line)}>
        <svg viewBox={`0 0 ${perLine} 1`} preserveAspectRatio="none" style={{ width: `${perLine}ch` }} aria-hidden>
          {paths.map(([look, path]) => (
            <path key={look} className={look} d={path} />
          ))}
        </svg>
        {runs.map((run, n) => (
          <Run key={n} run={run} />
        ))}
        {active !== null &&
          line.parts
            .filter((part) => part.token === active)
            .map((part) => (
              <b key={part.at} className="active" style={{ left: `${part.at}ch`, width: `${part.wide}ch` }} />
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

const GAP = 0.13 // columns between two tokens: about a pixel

/** A path a colour: the boxes of its tokens, in columns. */
function fills(columns: Columns, line: Line, mode: Mode): [string, string][] {
  const paths = new Map<string, string>()
  for (const { token, at, wide } of line.parts) {
    const look = colorOf(columns, token, mode)
    if (look !== 'context' && wide > 0)
      paths.set(look, `${paths.get(look) ?? ''}M${at + GAP} 0h${wide - GAP}v1h${GAP - wide}z`)
  }
  return [...paths]
}

interface Run {
  tone: string
  texts: (string | Part)[] // a part by itself where the font may give its text another width than its columns
}

/** The text, cut only where its own look changes. */
function tones(columns: Columns, line: Line, mode: Mode): Run[] {
  const runs: Run[] = []
  for (const part of line.parts) {
    const tone = toneOf(columns, part.token, mode)
    if (runs.at(-1)?.tone !== tone) runs.push({ tone, texts: [] })
    const { texts } = runs.at(-1)!
    const plain = part.mark !== 'control' && PLAIN.test(part.text)
    if (plain && typeof texts.at(-1) === 'string') texts.push(`${texts.pop() as string}${part.text}`)
    else texts.push(plain ? part.text : part)
  }
  return runs
}

function Run({ run: { tone, texts } }: { run: Run }) {
  return (
    <span className={tone || undefined}>
      {texts.map((text, n) =>
        typeof text === 'string' ? (
          text
        ) : (
          <i key={n} className={text.mark} style={{ width: `${text.wide}ch` }}>
            {text.text}
          </i>
        ),
      )}
    </span>
  )
}

/** The marks of spaces, tabs and newlines, each in its column. They are drawn over the text, and not copied with it. */
function spacesOf(line: Line): string {
  return line.parts.reduce((marks, part) => marks.padEnd(part.at) + marksOf(part), '')
}

function marksOf({ text, mark }: Part): string {
  if (mark === 'newline') return '↵'
  if (mark === 'tab') return '→'
  return mark || !PLAIN.test(text) ? '' : text.replace(/./g, (character) => (character === ' ' ? '·' : ' '))
}
