import { memo, useEffect, useState, type RefObject } from 'react'

import type { Mode } from './colors'
import type { Columns } from './columns'
import { LINE_PX, linesInSight } from './geometry'
import type { Layout } from './layout'
import { TokenLine } from './TokenLine'

const STEP = 4 // lines: the window moves on by so many, not with each line
const AROUND = 8 // lines beyond those in sight, on each side

interface Props {
  scroller: RefObject<HTMLDivElement | null>
  columns: Columns
  layout: Layout
  mode: Mode
  active: number | null
}

/** The lines in sight and a few around them. Scrolling renders nothing else of the page. */
export const TokenLines = memo(function TokenLines({ scroller, columns, layout, mode, active }: Props) {
  const { lines, perLine } = layout
  const [from, to] = useWindow(scroller, lines.length)
  return (
    <div style={{ height: lines.length * LINE_PX, position: 'relative' }}>
      {lines.slice(from, to).map((line, n) => (
        <div key={from + n} className="line" style={{ top: (from + n) * LINE_PX + 6 }}>
          <TokenLine
            columns={columns}
            line={line}
            perLine={perLine}
            mode={mode}
            active={active !== null && line.parts.some((part) => part.token === active) ? active : null}
          />
        </div>
      ))}
    </div>
  )
})

function useWindow(scroller: RefObject<HTMLDivElement | null>, lines: number): [number, number] {
  const [range, setRange] = useState<[number, number]>([0, 60])
  useEffect(() => {
    const element = scroller.current!
    const look = () => {
      const [first, last] = linesInSight(element, lines)
      const from = Math.max(0, Math.floor((first - AROUND) / STEP) * STEP)
      const to = Math.ceil((last + AROUND) / STEP) * STEP
      setRange((known) => (known[0] === from && known[1] === to ? known : [from, to]))
    }
    look()
    const observer = new ResizeObserver(look)
    observer.observe(element)
    element.addEventListener('scroll', look, { passive: true })
    return () => {
      observer.disconnect()
      element.removeEventListener('scroll', look)
    }
  }, [scroller, lines])
  return range
}
