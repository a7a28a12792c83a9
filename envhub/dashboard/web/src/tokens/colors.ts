/** What a token's colour says. */

import { spanAt, type Columns } from './columns'

export const MODES = [
  ['logprob', 'Probability'],
  ['mask', 'Mask'],
  ['role', 'Role'],
  ['version', 'Version'],
] as const
export type Mode = (typeof MODES)[number][0]

/** Lower bounds of the probabilities of the colour scale, the likeliest first; the last colour has none. */
export const BOUNDS = [0.95, 0.7, 0.3, 0.1, 0.01]

/** Which colour of the scale a sampled token has: 0 is the likeliest. */
export function surprise(logprob: number): number {
  const p = Math.exp(logprob)
  const level = BOUNDS.findIndex((bound) => p >= bound)
  return level < 0 ? BOUNDS.length : level
}

const VERSION_COLORS = 6

/** The class of a token, as tokens.css knows it. */
export function colorOf(columns: Columns, token: number, mode: Mode): string {
  const span = spanAt(columns, token)
  if (mode === 'mask') return span.trainable ? 'trained' : span.sampled ? 'frozen-fill' : 'context'
  if (mode === 'role') return `role-${span.role}`
  if (!span.sampled) return 'context'
  if (mode === 'version') return `v${span.policy_version % VERSION_COLORS}`
  const logprob = columns.logprobs[token] ?? null
  return logprob === null ? 'context' : `p${surprise(logprob)}`
}

/** How a token's text itself looks: pale where the policy did not write it, underlined where it did and is not trained. */
export function toneOf(columns: Columns, token: number, mode: Mode): '' | 'context' | 'frozen' {
  const span = spanAt(columns, token)
  if (mode === 'logprob' && span.sampled && !span.trainable) return 'frozen'
  return colorOf(columns, token, mode) === 'context' ? 'context' : ''
}

/** What the colours of a mode mean: class and words. */
export function legendOf(mode: Mode, columns: Columns): [string, string][] {
  if (mode === 'mask') {
    return [
      ['trained', 'sampled and trained'],
      ['frozen-fill', 'sampled, not trained'],
      ['context', 'context'],
    ]
  }
  if (mode === 'role') return ['system', 'user', 'assistant', 'tool'].map((role) => [`role-${role}`, role])
  if (mode === 'version') {
    const versions = new Set(columns.spans.filter((span) => span.sampled).map((span) => span.policy_version))
    return [...versions].sort((a, b) => a - b).map((version) => [`v${version % VERSION_COLORS}`, `v${version}`])
  }
  return [...BOUNDS, 0].map((_, level) => [`p${level}`, scaleLabel(level)])
}

const whole = (p: number): string => `${Math.round(p * 100)}`

function scaleLabel(level: number): string {
  if (level === 0) return `≥ ${whole(BOUNDS[0]!)} %`
  if (level === BOUNDS.length) return `< ${whole(BOUNDS.at(-1)!)} %`
  return `${whole(BOUNDS[level]!)}–${whole(BOUNDS[level - 1]!)} %`
}
