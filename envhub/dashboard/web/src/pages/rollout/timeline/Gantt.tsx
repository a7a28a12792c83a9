import { useVirtualizer } from '@tanstack/react-virtual'
import { useRef, useState, type PointerEvent } from 'react'

import type { Lane, Segment, TreeNode } from '../../../api/types'
import { linear, ticks } from '../../../charts/scale'
import { useWidth } from '../../../charts/size'
import { useKeys } from '../../../shell/keys'
import { Link, rolloutUrl } from '../../../shell/router'
import { duration } from '../../../text/format'
import { shortId } from '../tree'
import { BarCard } from './BarCard'
import { GanttLane } from './GanttLane'
import { useZoom } from './zoom'

const LANE_PX = 24
const NAMES_PX = 220
const NAMES_NARROW_PX = 112
const LEAST_DRAG_PX = 6

interface Props {
  seconds: number // that the whole tree took
  lines: { node: TreeNode; lane: Lane }[]
  current: string
}

/** A lane a rollout, a bar for each thing that it did or waited on. Only the lanes in sight are in the document. */
export function Gantt({ seconds: end, lines, current }: Props) {
  const scroller = useRef<HTMLDivElement>(null)
  const [frame, width] = useWidth<HTMLDivElement>()
  const names = width < 640 ? NAMES_NARROW_PX : NAMES_PX
  const { from, to, zoomTo, scale, move } = useZoom(end)
  const [dragged, setDragged] = useState<[number, number] | null>(null)
  const [pointed, setPointed] = useState<{ bar: Segment; x: number; y: number } | null>(null)
  const x = linear(from, to, 0, Math.max(1, width - names))
  const virtualizer = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => LANE_PX,
    overscan: 6,
    initialOffset: Math.max(0, lines.findIndex(({ lane }) => lane.rollout_id === current) - 4) * LANE_PX,
  })
  useKeys('Timeline', [
    { keys: '+', does: 'Zoom in', run: () => scale(0.5) },
    { keys: '-', does: 'Zoom out', run: () => scale(2) },
    { keys: 'l', does: 'Move later', run: () => move(0.25) },
    { keys: 'h', does: 'Move earlier', run: () => move(-0.25) },
    { keys: '0', does: 'See all', run: () => zoomTo(0, end) },
  ])

  const left = (event: PointerEvent) => event.clientX - frame.current!.getBoundingClientRect().left - names
  const onPointerDown = (event: PointerEvent) => {
    if (event.button !== 0 || left(event) < 0) return
    setDragged([left(event), left(event)])
  }
  const onPointerMove = (event: PointerEvent) => {
    if (dragged) setDragged([dragged[0], left(event)])
    const target = (event.target as Element).closest<SVGElement>('[data-bar]')
    const [line, segment] = target?.dataset.bar?.split('/').map(Number) ?? []
    const bar = line !== undefined && !dragged ? lines[line]?.lane.segments[segment!] : undefined
    setPointed(bar ? { bar, x: event.clientX, y: event.clientY } : null)
  }
  const onPointerUp = () => {
    if (!dragged) return
    const [a, b] = dragged.toSorted((p, q) => p - q) as [number, number]
    setDragged(null)
    const at = linear(0, Math.max(1, width - names), from, to)
    if (b - a > LEAST_DRAG_PX) zoomTo(at(Math.max(0, a)), at(b))
  }
  return (
    <div
      ref={frame}
      className="gantt"
      onPointerDown={onPointerDown}
      onPointerMove={onPointerMove}
      onPointerUp={onPointerUp}
      onPointerLeave={() => (setPointed(null), setDragged(null))}
      onDoubleClick={() => zoomTo(0, end)}
    >
      <svg className="gantt-axis" width={Math.max(0, width)} height="24" aria-hidden>
        {ticks(from, to, Math.floor((width - names) / 120)).map((tick) => (
          <text key={tick} className="tick" x={names + x(tick)} y="16">
            {duration(tick)}
          </text>
        ))}
      </svg>
      <div ref={scroller} className="gantt-lanes" tabIndex={0} role="list" aria-label="Rollouts over time">
        <div role="presentation" style={{ height: virtualizer.getTotalSize(), position: 'relative' }}>
          {virtualizer.getVirtualItems().map((item) => {
            const { node, lane } = lines[item.index]!
            const { rollout_id: id, depth } = lane
            return (
              <div
                key={item.key}
                role="listitem"
                className={id === current ? 'lane current' : 'lane'}
                style={{ transform: `translateY(${item.start}px)` }}
              >
                <Link
                  href={rolloutUrl(id, 'timeline')}
                  title={id}
                  style={{ width: names, paddingLeft: 10 + Math.min(depth * 12, names / 2) }}
                >
                  <i className={`status-dot ${node.rollout.status ?? 'running'}`} />
                  <code>{shortId(node)}</code>
                </Link>
                <GanttLane line={item.index} lane={lane} x={x} width={Math.max(0, width - names)} />
              </div>
            )
          })}
        </div>
      </div>
      {dragged && (
        <span
          className="gantt-drag"
          style={{ left: names + Math.min(...dragged), width: Math.abs(dragged[1] - dragged[0]) }}
        />
      )}
      {pointed && <BarCard {...pointed} />}
    </div>
  )
}
