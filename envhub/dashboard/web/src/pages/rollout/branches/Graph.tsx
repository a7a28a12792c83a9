import type { BranchNode } from '../../../api/types'

export const LINE_PX = 46
export const LANE_PX = 22

const COLORS = ['--accent', '--tool', '--environment', '--judge', '--bad', '--good']

/** The lines and dots left of the calls. A hollow dot does not train. */
export function Graph({ nodes, lane, width }: { nodes: BranchNode[]; lane: number[]; width: number }) {
  const placeOf = new Map(nodes.map((node, place) => [node.turn, place]))
  const x = (place: number) => 18 + lane[place]! * LANE_PX
  const y = (place: number) => place * LINE_PX + LINE_PX / 2
  const color = (place: number) => `var(${COLORS[lane[place]! % COLORS.length]})`
  return (
    <svg width={width} height={nodes.length * LINE_PX} aria-hidden>
      {nodes.map((node, place) => {
        const parent = node.parent === null ? undefined : placeOf.get(node.parent)
        if (parent === undefined) return null
        return (
          <path
            key={node.turn}
            className="curve"
            style={{ color: color(place) }}
            d={link(x(parent), y(parent), x(place), y(place))}
          />
        )
      })}
      {nodes.map((node, place) => (
        <circle
          key={node.turn}
          cx={x(place)}
          cy={y(place)}
          r="4.5"
          fill={node.trains_in === null ? 'var(--surface)' : color(place)}
          stroke={color(place)}
          strokeWidth="1.8"
        />
      ))}
    </svg>
  )
}

/** Straight down in a lane; into another one by a curve just below the parent. */
function link(fromX: number, fromY: number, toX: number, toY: number): string {
  if (fromX === toX) return `M${fromX} ${fromY}L${toX} ${toY}`
  const turn = fromY + LINE_PX * 0.7
  return `M${fromX} ${fromY}C${fromX} ${turn} ${toX} ${fromY} ${toX} ${turn}L${toX} ${toY}`
}
