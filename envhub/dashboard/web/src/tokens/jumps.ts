/** The places of a row that are worth a visit. */

import type { Marks } from '../api/types'

export const KINDS = [
  ['low', 'low probability', 'l'],
  ['turns', 'turns', 't'],
  ['versions', 'versions', 'v'],
  ['forks', 'forks', 'f'],
] as const
export type JumpKind = (typeof KINDS)[number][0]

/** By kind, in the order of the row. */
export function placesOf(marks: Marks): Record<JumpKind, number[]> {
  const sorted = (kind: JumpKind) => marks[kind].map((mark) => mark.at).sort((a, b) => a - b)
  return { low: sorted('low'), turns: sorted('turns'), versions: sorted('versions'), forks: sorted('forks') }
}

/** The next place after a token, or before it; round at the ends. */
export function jump(places: number[], from: number, way: 1 | -1): number | undefined {
  return way === 1
    ? (places.find((at) => at > from) ?? places[0])
    : (places.findLast((at) => at < from) ?? places.at(-1))
}
