import type { Histogram as Counts } from '../api/types'
import { Link } from '../shell/router'
import { brief, count, decimal } from '../text/format'
import { linear, ticks } from './scale'
import { useWidth } from './size'

export interface BarItem {
  name: string
  count: number
  color?: string
  href?: string
  title?: string
}

/** Named counts as bars, the names beside them. */
export function Bars({ items, empty = 'None so far.' }: { items: BarItem[]; empty?: string }) {
  const most = Math.max(1, ...items.map((item) => item.count))
  if (items.length === 0) return <p className="muted">{empty}</p>
  return (
    <ul className="bars">
      {items.map((item) => (
        <li key={item.name} title={item.title}>
          <span className="bar-name">{item.href ? <Link href={item.href}>{item.name}</Link> : item.name}</span>
          <span className="bar-track">
            <i style={{ width: `${(100 * item.count) / most}%`, background: `var(${item.color ?? '--engine'})` }} />
          </span>
          <b>{count(item.count)}</b>
        </li>
      ))}
    </ul>
  )
}

interface PartsProps {
  label: string
  items: BarItem[]
  text?: (n: number) => string
  bare?: boolean // without the names below
}

/** Parts of a whole, side by side in one bar. */
export function Parts({ label, items, text = count, bare = false }: PartsProps) {
  const shown = items.filter((item) => item.count > 0)
  return (
    <div className="parts">
      <div
        className="parts-bar"
        role="img"
        aria-label={`${label}: ${shown.map((i) => `${i.name} ${text(i.count)}`).join(', ')}`}
      >
        {shown.map((item) => (
          <i key={item.name} style={{ flexGrow: item.count, background: `var(${item.color ?? '--engine'})` }} />
        ))}
      </div>
      {!bare && (
        <ul className="parts-names">
          {shown.map((item) => (
            <li key={item.name}>
              <i style={{ background: `var(${item.color ?? '--engine'})` }} />
              {item.href ? <Link href={item.href}>{item.name}</Link> : item.name} <b>{text(item.count)}</b>
            </li>
          ))}
        </ul>
      )}
    </div>
  )
}

const HEIGHT = 120
const BOTTOM = 20

export function Histogram({ label, of, color = '--engine' }: { label: string; of: Counts; color?: string }) {
  const [frame, width] = useWidth<HTMLDivElement>()
  const { edges, counts } = of
  const low = edges[0] ?? 0
  const high = edges.at(-1) ?? 1
  const x = linear(low, high, 4, width - 4)
  const y = linear(0, Math.max(1, ...counts), HEIGHT - BOTTOM, 4)
  const total = counts.reduce((sum, n) => sum + n, 0)
  return (
    <figure className="chart" ref={frame}>
      {total === 0 && <p className="muted">none</p>}
      {total > 0 && width > 0 && (
        <svg
          width={width}
          height={HEIGHT}
          role="img"
          aria-label={`${label}: ${count(total)} between ${decimal(low)} and ${decimal(high)}`}
        >
          {counts.map((n, bucket) => (
            <rect
              key={bucket}
              x={x(edges[bucket]!) + 0.5}
              width={Math.max(1, x(edges[bucket + 1]!) - x(edges[bucket]!) - 1)}
              y={y(n)}
              height={HEIGHT - BOTTOM - y(n)}
              rx="1.5"
              fill={`var(${color})`}
            >
              <title>{`${decimal(edges[bucket]!)} to ${decimal(edges[bucket + 1]!)}: ${count(n)}`}</title>
            </rect>
          ))}
          <line className="rule" x1="0" x2={width} y1={HEIGHT - BOTTOM + 0.5} y2={HEIGHT - BOTTOM + 0.5} />
          {ticks(low, high, 5).map((tick) => (
            <text
              key={tick}
              className="tick"
              x={Math.min(width - 14, Math.max(10, x(tick)))}
              y={HEIGHT - 5}
              textAnchor="middle"
            >
              {Math.abs(tick) >= 1000 ? brief(tick) : decimal(tick)}
            </text>
          ))}
        </svg>
      )}
    </figure>
  )
}
