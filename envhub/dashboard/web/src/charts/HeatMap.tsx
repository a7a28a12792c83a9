import { Link } from '../shell/router'
import { share } from '../text/format'

interface Props {
  label: string
  rows: string[]
  columns: number[]
  values: (number | null)[][]
  href: (row: string) => string
}

const NAMES_PX = 120
const WIDEST_PX = 52

/** Shares of 1 by row and column: red through the ground's colour to green. */
export function HeatMap({ label, rows, columns, values, href }: Props) {
  const every = Math.max(1, Math.ceil(columns.length / 14))
  return (
    <div className="scroll-x">
      <table className="heat" style={{ width: `min(100%, ${NAMES_PX + columns.length * WIDEST_PX}px)` }}>
        <caption className="hidden">{label}</caption>
        <thead>
          <tr>
            <th scope="col">
              <span className="hidden">Task</span>
            </th>
            {columns.map((column, n) => (
              <th key={column} scope="col">
                {n % every === 0 ? `v${column}` : <span className="hidden">{`v${column}`}</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, r) => (
            <tr key={row}>
              <th scope="row">
                <Link href={href(row)}>{row}</Link>
              </th>
              {columns.map((column, c) => (
                <HeatCell key={column} value={values[r]?.[c] ?? null} title={`${row}, v${column}`} />
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function HeatCell({ value, title }: { value: number | null; title: string }) {
  if (value === null) return <td title={`${title}: none`} />
  const text = share(value)
  const color = `color-mix(in oklch, var(--heat-high) ${Math.round(value * 100)}%, var(--heat-low))`
  return (
    <td title={`${title}: ${text}`} style={{ background: color }}>
      <span className="hidden">{text}</span>
    </td>
  )
}
