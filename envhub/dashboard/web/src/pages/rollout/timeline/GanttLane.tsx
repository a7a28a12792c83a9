import type { Lane } from '../../../api/types'
import type { Scale } from '../../../charts/scale'
import { duration } from '../../../text/format'
import { KINDS, spent } from './kinds'

interface Props {
  line: number // its place among the lanes
  lane: Lane
  x: Scale
  width: number
}

const LEAST_PX = 0.75
const ROUND_FROM_PX = 5

/** The segments of one rollout that reach into what is in sight. */
export function GanttLane({ line, lane, x, width }: Props) {
  return (
    <svg width={width} height="24" role="img" aria-label={said(lane)}>
      {lane.segments.map((segment, place) => {
        const from = Math.max(-2, x(segment.start))
        const to = Math.min(width + 2, x(segment.end))
        if (to < 0 || from > width) return null
        const size = Math.max(LEAST_PX, to - from)
        return (
          <g key={place} data-bar={`${line}/${place}`}>
            <rect
              x={from}
              y="5"
              width={size}
              height="13"
              rx={size > ROUND_FROM_PX ? 2 : 0}
              fill={`var(${KINDS[segment.kind].color})`}
            />
            {segment.critical && <rect x={from} y="19.5" width={size} height="2" fill="var(--accent)" />}
          </g>
        )
      })}
    </svg>
  )
}

const said = (lane: Lane): string =>
  spent([lane])
    .filter((part) => part.count > 0)
    .map((part) => `${part.name} ${duration(part.count)}`)
    .join(', ')
