/** Scales and ticks. */

export type Scale = (value: number) => number

/** From [low, high] to [from, to]; a range of nothing lies in the middle. */
export function linear(low: number, high: number, from: number, to: number): Scale {
  const width = high - low
  return (value) => (width === 0 ? (from + to) / 2 : from + ((value - low) / width) * (to - from))
}

/** Round numbers, about as many as asked for, within [low, high]. */
export function ticks(low: number, high: number, about = 4): number[] {
  const raw = (high - low) / Math.max(1, about)
  if (!(raw > 0)) return [low]
  const power = 10 ** Math.floor(Math.log10(raw))
  const step = power * ([1, 2, 5, 10].find((times) => times * power >= raw) ?? 10)
  const first = Math.ceil(low / step - 1e-9)
  const last = Math.floor(high / step + 1e-9)
  return Array.from({ length: last - first + 1 }, (_, n) => Number(((first + n) * step).toPrecision(12)))
}

/** The least and the greatest; [0, 1] of nothing. */
export function extent(values: Iterable<number>): [number, number] {
  let low = Infinity
  let high = -Infinity
  for (const value of values) {
    if (value < low) low = value
    if (value > high) high = value
  }
  return low <= high ? [low, high] : [0, 1]
}
