import { useMemo, type PointerEvent, type RefObject } from 'react'

import type { Marks } from '../api/types'
import { count, plural } from '../text/format'

interface Props {
  marks: Marks
  total: number
  sight: RefObject<HTMLSpanElement | null> // the frame around what is in sight; whoever scrolls moves it
  onGo: (token: number) => void
}

/** The whole row in one strip: how sure the policy was, where versions change and branches leave, and what is in sight. */
export function Minimap({ marks, total, sight, onGo }: Props) {
  const background = useMemo(() => gradient(marks), [marks])
  const share = (token: number) => `${(100 * token) / Math.max(1, total)}%`
  const go = (event: PointerEvent<HTMLDivElement>) => {
    if (event.buttons !== 1) return
    const frame = event.currentTarget.getBoundingClientRect()
    onGo(Math.max(0, Math.min(total - 1, Math.floor(((event.clientX - frame.left) / frame.width) * total))))
  }
  return (
    <div
      className="minimap"
      role="img"
      aria-label={`The row from its first to its ${count(total)}th token; ${plural(marks.low.length, 'token')} of low probability`}
      style={{ background }}
      onPointerDown={go}
      onPointerMove={go}
    >
      {marks.versions.slice(1, 200).map((mark) => (
        <i key={`v${mark.at}`} className="version" style={{ left: share(mark.at) }} />
      ))}
      {marks.forks.slice(0, 200).map((mark) => (
        <i key={`f${mark.row}`} className="fork-mark" style={{ left: share(mark.at) }} />
      ))}
      <span ref={sight} />
    </div>
  )
}

/** A bucket a stop: the less likely what was sampled there, the warmer; the more context, the paler. */
function gradient({ overview }: Marks): string {
  const { mean_logprob: means, sampled } = overview
  const stops = means.map((mean, n) => {
    const unsure = mean === null ? 0 : Math.round(100 * (1 - Math.exp(mean)))
    const warmth = `color-mix(in oklch, var(--p5) ${unsure}%, var(--p0))`
    const color = `color-mix(in srgb, ${warmth} ${Math.round(sampled[n]! * 100)}%, var(--sunken))`
    return `${color} ${((100 * n) / means.length).toFixed(2)}% ${((100 * (n + 1)) / means.length).toFixed(2)}%`
  })
  return stops.length > 0 ? `linear-gradient(90deg, ${stops.join(', ')})` : 'none'
}
