/** Numbers and times as the page writes them. */

const integer = new Intl.NumberFormat('en')
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' })
const full = new Intl.DateTimeFormat('en-GB', { dateStyle: 'full', timeStyle: 'long' })

export const count = (n: number): string => integer.format(n)

/** Three decimals at most, and a true minus. */
export const decimal = (x: number, digits = 3): string => String(Number(x.toFixed(digits))).replace('-', '−')

/** Always three decimals: for columns of means. */
export const mean = (x: number): string => x.toFixed(3).replace('-', '−')

export const plural = (n: number, noun: string, many = `${noun}s`): string => `${count(n)} ${n === 1 ? noun : many}`

export function duration(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`
  if (seconds < 60) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 3600) return parts(whole / 60, 'min', whole % 60, 's')
  return parts(whole / 3600, 'h', Math.floor(whole / 60) % 60, 'min')
}

function parts(large: number, unit: string, small: number, smallUnit: string): string {
  return `${Math.floor(large)} ${unit}${small ? ` ${small} ${smallUnit}` : ''}`
}

/** The time of day, with the day before it where that is not today. */
export function moment(epoch: number): string {
  const at = new Date(epoch * 1000)
  const time = clock.format(at)
  return at.toDateString() === new Date().toDateString() ? time : `${day.format(at)}, ${time}`
}

export const fullMoment = (epoch: number): string => full.format(new Date(epoch * 1000))

export function versions(min: number, max: number): string {
  if (max < 0) return '–'
  return min === max ? `v${max}` : `v${min}–${max}`
}

/** A probability from its logarithm: 99.9 %, 0.031 %. */
export function percent(logprob: number): string {
  const p = Math.exp(logprob) * 100
  if (p >= 10) return `${p.toFixed(1)} %`
  return p >= 0.001 ? `${Number(p.toPrecision(2))} %` : '< 0.001 %'
}

/** 1,234, 56.7k, 8.90M: for where there is little room. */
export function brief(n: number): string {
  if (Math.abs(n) < 10_000) return count(Math.round(n))
  const [value, unit] = Math.abs(n) < 1e6 ? [n / 1e3, 'k'] : Math.abs(n) < 1e9 ? [n / 1e6, 'M'] : [n / 1e9, 'G']
  return `${value.toPrecision(3)}${unit}`
}

/** A share of 1 in percent. */
export const share = (x: number, digits = 0): string => `${(x * 100).toFixed(digits)} %`

/** How long ago, coarsely. */
export const ago = (epoch: number, now: number): string => `${duration(Math.max(1, Math.round(now - epoch)))} ago`
