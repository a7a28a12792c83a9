import { usePlace } from '../../../shell/router'

interface Zoom {
  from: number // seconds from the start of the tree
  to: number
  zoomTo: (from: number, to: number) => void
  scale: (times: number) => void // the part in sight becomes as many times as long
  move: (share: number) => void // of the part in sight; negative: earlier
}

const LEAST_S = 0.001

/** Which part of the time is in sight: in the URL, as all that is seen. */
export function useZoom(end: number): Zoom {
  const place = usePlace()
  const from = Number(place.get('from')) || 0
  const to = Number(place.get('to')) || end
  const zoomTo = (a: number, b: number) => {
    const low = Math.max(0, a)
    const high = Math.min(end, Math.max(b, low + LEAST_S))
    const all = low <= 0 && high >= end
    place.set({ from: all ? '' : low.toFixed(3), to: all ? '' : high.toFixed(3) })
  }
  const width = to - from
  return {
    from,
    to,
    zoomTo,
    scale: (times) => zoomTo((from + to - width * times) / 2, (from + to + width * times) / 2),
    move: (share) => {
      const by = Math.max(-from, Math.min(end - to, width * share))
      zoomTo(from + by, to + by)
    },
  }
}
