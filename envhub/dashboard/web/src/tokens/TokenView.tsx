import { useVirtualizer } from '@tanstack/react-virtual'
import {
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  type KeyboardEvent,
  type PointerEvent,
  type RefObject,
} from 'react'

import { sampledStarts, type Columns } from './columns'
import { layout, lineOfToken } from './layout'
import { TokenCard } from './TokenCard'
import { TokenLine } from './TokenLine'

const LINE_PX = 24 // as .line is high in tokens.css
const GUTTER_PX = 132
const OVERSCAN = 10

/** The tokens of a row as flowing text. Only the lines in sight are in the document. */
export function TokenView({ columns, label }: { columns: Columns; label: string }) {
  const scroller = useRef<HTMLDivElement>(null)
  const card = useRef<HTMLDivElement>(null)
  const pointer = useRef({ x: -1, y: -1 })
  const [active, setActive] = useState<number | null>(null)
  const perLine = useColumnsOf(scroller)
  const lines = useMemo(() => layout(columns, perLine), [columns, perLine])
  const lineOf = useMemo(() => lineOfToken(lines, columns.ids.length), [lines, columns])
  const starts = useMemo(() => sampledStarts(columns), [columns])
  const virtualizer = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => LINE_PX,
    overscan: OVERSCAN,
  })
  useLayoutEffect(() => placeCard(scroller.current, card.current, active))

  const moveTo = (token: number) => {
    const next = Math.min(columns.ids.length - 1, Math.max(0, token))
    setActive(next)
    virtualizer.scrollToIndex(lineOf[next]!)
  }
  const onKeyDown = (event: KeyboardEvent) => {
    const token = active ?? lines[virtualizer.range?.startIndex ?? 0]?.first ?? 0
    const line = lineOf[token]!
    const target: Record<string, () => number | undefined> = {
      ArrowRight: () => token + 1,
      ArrowLeft: () => token - 1,
      ArrowDown: () => lines[line + 1]?.first,
      ArrowUp: () => lines[line - 1]?.first,
      Home: () => 0,
      End: () => columns.ids.length - 1,
      n: () => starts.find((start) => start > token),
      p: () => starts.findLast((start) => start < token),
    }
    if (event.key === 'Escape') setActive(null)
    const next = event.ctrlKey || event.metaKey || event.altKey ? undefined : target[event.key]?.()
    if (next === undefined) return
    event.preventDefault()
    moveTo(next)
  }
  const onPointerMove = (event: PointerEvent) => {
    const moved = event.clientX !== pointer.current.x || event.clientY !== pointer.current.y
    pointer.current = { x: event.clientX, y: event.clientY }
    if (!moved) return // the text scrolled under it
    const token = (event.target as Element).closest<HTMLElement>('[data-token]')?.dataset.token
    if (token !== undefined) setActive(Number(token))
  }
  return (
    <div className="token-view" onPointerLeave={() => setActive(null)}>
      <div
        ref={scroller}
        className="token-scroll"
        tabIndex={0}
        role="group"
        aria-label={`${label}. Arrow keys move from token to token, n and p to the next and previous sampled run.`}
        onKeyDown={onKeyDown}
        onPointerMove={onPointerMove}
        onFocus={() => active === null && setActive(lines[virtualizer.range?.startIndex ?? 0]?.first ?? null)}
        onBlur={() => setActive(null)}
      >
        <div style={{ height: virtualizer.getTotalSize(), position: 'relative' }}>
          {virtualizer.getVirtualItems().map((item) => (
            <div key={item.key} className="line" style={{ transform: `translateY(${item.start}px)` }}>
              <TokenLine
                columns={columns}
                line={lines[item.index]!}
                active={lines[item.index]!.parts.some((part) => part.token === active) ? active : null}
              />
            </div>
          ))}
        </div>
      </div>
      <div ref={card} className="token-card" role="status" hidden>
        {active !== null && active < columns.ids.length && <TokenCard columns={columns} token={active} />}
      </div>
    </div>
  )
}

/** How many characters fit beside the gutter, kept up to date with the width. */
function useColumnsOf(scroller: RefObject<HTMLDivElement | null>): number {
  const [columns, setColumns] = useState(80)
  useLayoutEffect(() => {
    const element = scroller.current!
    const ruler = document.createElement('span')
    ruler.className = 'ruler'
    ruler.textContent = '0'.repeat(100)
    element.append(ruler)
    const character = ruler.getBoundingClientRect().width / 100
    ruler.remove()
    const measure = () => setColumns(Math.max(20, Math.floor((element.clientWidth - GUTTER_PX) / character) - 2))
    const observer = new ResizeObserver(measure)
    observer.observe(element)
    return () => observer.disconnect()
  }, [scroller])
  return columns
}

/** Puts the card below its token, or above it where there is no room; hides it where the token is out of sight. */
function placeCard(scroller: HTMLElement | null, card: HTMLElement | null, active: number | null): void {
  if (!scroller || !card) return
  const token = active === null ? null : scroller.querySelector(`[data-token="${active}"]`)
  card.hidden = token === null
  if (!token) return
  const frame = scroller.getBoundingClientRect()
  const at = token.getBoundingClientRect()
  const left = Math.min(at.left - frame.left, frame.width - card.offsetWidth - 12)
  const below = at.bottom - frame.top + 6
  const above = at.top - frame.top - card.offsetHeight - 6
  card.style.left = `${Math.max(8, left)}px`
  card.style.top = `${at.bottom + card.offsetHeight + 12 > window.innerHeight && above > 0 ? above : below}px`
}
