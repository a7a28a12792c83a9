/** What a segment of the timeline is, in the order of the legend. */

import type { Lane, Segment } from '../../../api/types'

export const KINDS: Record<Segment['kind'], { label: string; color: string }> = {
  engine: { label: 'engine', color: '--engine' },
  tool: { label: 'tool', color: '--tool' },
  environment: { label: 'environment', color: '--environment' },
  judge: { label: 'judge', color: '--judge' },
  children: { label: 'waits for children', color: '--children' },
  platform: { label: 'platform', color: '--waiting' },
  paused: { label: 'paused', color: '--state-paused' },
}

/** Seconds by kind, over some lanes. */
export function spent(lanes: Lane[]): { name: string; color: string; count: number }[] {
  const seconds = new Map<string, number>()
  for (const { segments } of lanes)
    for (const { kind, start, end } of segments) seconds.set(kind, (seconds.get(kind) ?? 0) + end - start)
  return Object.entries(KINDS).map(([kind, { label, color }]) => ({
    name: label,
    color,
    count: seconds.get(kind) ?? 0,
  }))
}
