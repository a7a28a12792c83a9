import { useState, type PointerEvent } from 'react'

import { extent, linear, ticks } from './scale'
import { useWidth } from './size'

export interface Series {
  name: string
  color: string // a CSS variable's name: --accent
  values: (number | null)[]
  spread?: (number | null)[] // drawn as a band around the line
}

interface Props {
  label: string // what a screen reader says of it
  xs: number[]
  series: Series[]
  xText: (x: number) => string
  yText: (y: number) => string
  from?: number // the axis of values holds at least [from, to]
  to?: number
  height?: number
}

const LEFT = 44
const RIGHT = 10
const TOP = 8
const BOTTOM = 22

/** Lines over a common axis; pointing at it tells the values there. */
export function LineChart({ label, xs, series, xText, yText, from, to, height = 168 }: Props) {
  const [frame, width] = useWidth<HTMLDivElement>()
  const [at, setAt] = useState<number | null>(null)
  const values = series.flatMap((one) =>
    one.values.flatMap((value, n) => {
      const spread = one.spread?.[n] ?? 0
      return value === null ? [] : [value - spread, value + spread]
    }),
  )
  const [low, high] = extent([...values, ...(from === undefined ? [] : [from]), ...(to === undefined ? [] : [to])])
  const [first, last] = extent(xs)
  const x = linear(first, last, LEFT, width - RIGHT)
  const y = linear(low, high, height - BOTTOM, TOP)
  const point = (event: PointerEvent<SVGSVGElement>) => {
    const left = event.clientX - event.currentTarget.getBoundingClientRect().left
    const distances = xs.map((value) => Math.abs(x(value) - left))
    setAt(distances.indexOf(Math.min(...distances)))
  }
  return (
    <figure className="chart" ref={frame}>
      {width > 0 && xs.length > 0 && (
        <svg
          width={width}
          height={height}
          role="img"
          aria-label={`${label}: ${summary(xs, series, xText, yText)}`}
          onPointerMove={point}
          onPointerLeave={() => setAt(null)}
        >
          {ticks(low, high).map((tick) => (
            <g key={tick}>
              <line className="rule" x1={LEFT} x2={width - RIGHT} y1={y(tick)} y2={y(tick)} />
              <text className="tick" x={LEFT - 8} y={y(tick) + 4} textAnchor="end">
                {yText(tick)}
              </text>
            </g>
          ))}
          {ticks(first, last, Math.min(Math.max(2, Math.floor(width / 110)), last - first)).map((tick) => (
            <text
              key={tick}
              className="tick"
              x={x(tick)}
              y={height - 5}
              textAnchor={x(tick) > width - 32 ? 'end' : 'middle'}
            >
              {xText(tick)}
            </text>
          ))}
          {series.map((one) => (
            <g key={one.name} style={{ color: `var(${one.color})` }}>
              {one.spread && <path className="band" d={band(xs, one, x, y)} />}
              <path className="curve" d={path(xs, one.values, x, y)} />
              {at !== null && one.values[at] != null && <circle cx={x(xs[at]!)} cy={y(one.values[at])} r="3.2" />}
            </g>
          ))}
          {at !== null && <line className="cursor" x1={x(xs[at]!)} x2={x(xs[at]!)} y1={TOP} y2={height - BOTTOM} />}
        </svg>
      )}
      <figcaption className="chart-legend">
        {at !== null && xs[at] !== undefined && <b>{xText(xs[at])}</b>}
        {series.map((one) => (
          <span key={one.name} style={{ color: `var(${one.color})` }}>
            <i /> <span>{one.name}</span> <b>{valueText(one.values[at ?? one.values.length - 1], yText)}</b>
          </span>
        ))}
      </figcaption>
    </figure>
  )
}

const valueText = (value: number | null | undefined, text: (y: number) => string): string =>
  value === null || value === undefined ? '–' : text(value)

function summary(xs: number[], series: Series[], xText: Props['xText'], yText: Props['yText']): string {
  const last = xs.length - 1
  return series
    .map((one) => `${one.name} ${valueText(one.values[0], yText)} to ${valueText(one.values[last], yText)}`)
    .join(', ')
    .concat(`, from ${xText(xs[0]!)} to ${xText(xs[last]!)}`)
}

/** A gap where there is no value. */
function path(xs: number[], values: (number | null)[], x: (v: number) => number, y: (v: number) => number): string {
  let pen = 'M'
  return values
    .map((value, n) => {
      if (value === null) {
        pen = 'M'
        return ''
      }
      const step = `${pen}${x(xs[n]!).toFixed(1)} ${y(value).toFixed(1)}`
      pen = 'L'
      return step
    })
    .join('')
}

function band(xs: number[], one: Series, x: (v: number) => number, y: (v: number) => number): string {
  const known = xs.flatMap((at, n) => {
    const value = one.values[n]
    return value == null ? [] : [{ at, value, spread: one.spread![n] ?? 0 }]
  })
  if (known.length === 0) return ''
  const upper = known.map((p) => `${x(p.at).toFixed(1)} ${y(p.value + p.spread).toFixed(1)}`)
  const lower = known.reverse().map((p) => `${x(p.at).toFixed(1)} ${y(p.value - p.spread).toFixed(1)}`)
  return `M${[...upper, ...lower].join('L')}Z`
}
