import { Fragment, useMemo, useState, type ReactNode } from 'react'

import { count } from './format'
import { escaped, nameOf, pieces } from './visible'

/** Text that a model, a tool or a user wrote: as text, whatever it looks like. */
export function SafeText({ text, find = '' }: { text: string; find?: string }) {
  return (
    <>
      {pieces(text).map((piece, n) =>
        piece.hidden ? (
          <span key={n} className="escape" title={nameOf(piece.text)}>
            {escaped(piece.text)}
          </span>
        ) : (
          <Fragment key={n}>{find ? <Found text={piece.text} find={find} /> : piece.text}</Fragment>
        ),
      )}
    </>
  )
}

const MOST_FOUND = 500 // marks in one text

function Found({ text, find }: { text: string; find: string }) {
  const parts: ReactNode[] = []
  const low = text.toLowerCase()
  const wanted = find.toLowerCase()
  let at = 0
  for (let hit = low.indexOf(wanted); hit >= 0 && parts.length < MOST_FOUND; hit = low.indexOf(wanted, at)) {
    parts.push(text.slice(at, hit), <mark key={hit}>{text.slice(hit, hit + wanted.length)}</mark>)
    at = hit + wanted.length
  }
  return [...parts, text.slice(at)]
}

const FIRST = 2400 // characters of a long text that stand there at once
const FIRST_LINES = 28
const MORE = 60_000 // more with each press: a line of megabytes would stop the browser

function beginning(text: string, most: number): string {
  if (most > FIRST) return text.slice(0, most)
  return text.slice(0, FIRST).split('\n', FIRST_LINES).join('\n')
}

interface LongProps {
  text: string
  mono?: boolean
  find?: string
  open?: boolean // shows all that fits from the start
}

/** Text with its own line breaks; of a long one the beginning, until asked for more. */
export function LongText({ text, mono = false, find = '', open = false }: LongProps) {
  const found = find !== '' && text.toLowerCase().includes(find.toLowerCase())
  const [most, setMost] = useState(open ? MORE : FIRST)
  const shown = useMemo(() => beginning(text, found ? Math.max(most, MORE) : most), [text, most, found])
  const rest = text.length - shown.length
  return (
    <>
      <div className={mono ? 'text mono' : 'text'} dir="auto" data-cut={rest > 0}>
        <SafeText text={shown} find={find} />
      </div>
      {rest > 0 && (
        <button className="quiet more" onClick={() => setMost(shown.length + MORE)}>
          Show {rest > MORE ? `${count(MORE)} of ${count(rest)}` : count(rest)} more characters
        </button>
      )}
    </>
  )
}
