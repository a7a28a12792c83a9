import {
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  type KeyboardEvent,
  type MouseEvent,
  type PointerEvent,
} from 'react'

import type { Marks } from '../api/types'
import type { Mode } from './colors'
import type { Columns } from './columns'
import { linesInSight, partAt, placeCard, scrollToLine } from './geometry'
import { Layout } from './layout'
import { Minimap } from './Minimap'
import { TokenCard } from './TokenCard'
import { TokenLines } from './TokenLines'
import { useGlyphs } from './useGlyphs'

interface Props {
  columns: Columns
  marks: Marks | undefined
  mode: Mode
  label: string
  goTo: number | undefined // a token to show
  onActive: (token: number | null) => void
  onPick: (token: number) => void
}

/** The tokens of a row as flowing text, a card of the active one, and the whole row as a strip. */
export function TokenView({ columns, marks, mode, label, goTo, onActive, onPick }: Props) {
  const scroller = useRef<HTMLDivElement>(null)
  const card = useRef<HTMLDivElement>(null)
  const sight = useRef<HTMLSpanElement>(null)
  const pointer = useRef({ x: -1, y: -1 })
  const [active, setActiveToken] = useState<number | null>(null)
  const setActive = (token: number | null) => (setActiveToken(token), onActive(token))
  const glyphs = useGlyphs(scroller)
  const layout = useMemo(() => new Layout(glyphs.perLine), [columns.ids, columns.pieces, glyphs.perLine])
  layout.extend(columns)

  const firstInSight = () => layout.lines[linesInSight(scroller.current!, layout.lines.length)[0]]?.first ?? 0
  const follow = () => {
    const view = scroller.current!
    const [first, last] = linesInSight(view, layout.lines.length).map((line) => layout.lines[line]?.first ?? 0)
    if (sight.current) {
      sight.current.style.left = `${(100 * first!) / columns.total}%`
      sight.current.style.width = `max(3px, ${(100 * (last! - first!)) / columns.total}%)`
    }
    const line = active === null ? undefined : layout.lineOf[active]
    const part = line === undefined ? undefined : layout.lines[line]!.parts.find(({ token }) => token === active)
    if (part) placeCard(view, card.current!, line!, part, glyphs)
    else card.current!.hidden = true
  }
  useLayoutEffect(follow)

  const moveTo = (token: number, align: 'auto' | 'center' = 'auto') => {
    const next = Math.min(columns.ids.length - 1, Math.max(0, token))
    setActive(next)
    scrollToLine(scroller.current!, layout.lineOf[next]!, align)
  }
  const reached = goTo !== undefined && goTo < columns.ids.length
  useEffect(() => {
    if (reached) moveTo(goTo, 'center')
  }, [goTo, reached, layout]) // eslint-disable-line -- again where lines break elsewhere

  const onKeyDown = (event: KeyboardEvent) => {
    const { lines, lineOf } = layout
    const token = active ?? firstInSight()
    const line = lineOf[token]!
    const target: Record<string, () => number | undefined> = {
      ArrowRight: () => token + 1,
      ArrowLeft: () => token - 1,
      ArrowDown: () => lines[line + 1]?.first,
      ArrowUp: () => lines[line - 1]?.first,
      Home: () => 0,
      End: () => columns.ids.length - 1,
    }
    if (event.key === 'Escape') setActive(null)
    if (event.key === 'Enter') onPick(token)
    const next = event.ctrlKey || event.metaKey || event.altKey ? undefined : target[event.key]?.()
    if (next === undefined) return
    event.preventDefault()
    moveTo(next)
  }
  const tokenAt = ({ clientX, clientY }: MouseEvent): number | undefined => {
    const view = scroller.current!
    const frame = view.getBoundingClientRect()
    const x = clientX - frame.left - view.clientLeft
    const y = clientY - frame.top - view.clientTop + view.scrollTop
    return partAt(layout, glyphs, x, y)?.token
  }
  const onPointerMove = (event: PointerEvent) => {
    const moved = event.clientX !== pointer.current.x || event.clientY !== pointer.current.y
    pointer.current = { x: event.clientX, y: event.clientY }
    const token = moved ? tokenAt(event) : undefined // otherwise the text scrolled under it
    if (token !== undefined) setActive(token)
  }
  return (
    <>
      {marks && columns.total > 2000 && (
        <Minimap marks={marks} total={columns.total} sight={sight} onGo={(token) => moveTo(token, 'center')} />
      )}
      <div className="token-view" onPointerLeave={() => setActive(null)}>
        <div
          ref={scroller}
          className="token-scroll"
          tabIndex={0}
          role="group"
          aria-label={`${label}. Arrow keys move from token to token.`}
          onKeyDown={onKeyDown}
          onScroll={follow}
          onPointerMove={onPointerMove}
          onClick={(event) => {
            const token = tokenAt(event)
            if (token !== undefined && !getSelection()?.toString()) onPick(token)
          }}
          onFocus={() => active === null && setActive(firstInSight())}
          onBlur={() => setActive(null)}
        >
          <TokenLines scroller={scroller} columns={columns} layout={layout} mode={mode} active={active} />
        </div>
        <div ref={card} className="token-card" role="status" hidden>
          {active !== null && active < columns.ids.length && <TokenCard columns={columns} token={active} />}
        </div>
      </div>
    </>
  )
}
