/** Which lane of the graph each call stands in: a branch keeps the lane that it began in. */

import type { BranchNode } from '../../../api/types'

/** By place in `nodes`. The first call to go on from another stays in its lane, every other opens one. */
export function lanes(nodes: BranchNode[]): number[] {
  const placeOf = new Map(nodes.map((node, place) => [node.turn, place]))
  const continued = new Set<number>()
  let opened = 0
  const lane: number[] = []
  for (const node of nodes) {
    const parent = node.parent === null ? undefined : placeOf.get(node.parent)
    if (parent !== undefined && !continued.has(parent)) {
      continued.add(parent)
      lane.push(lane[parent]!)
    } else {
      lane.push(opened++)
    }
  }
  return lane
}
