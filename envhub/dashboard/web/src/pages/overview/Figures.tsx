import type { ReactNode } from 'react'

import { extent, linear } from '../../charts/scale'

/** The numbers that are looked at first. */
export function Figures({ children }: { children: ReactNode }) {
  return <dl className="figures">{children}</dl>
}

interface Props {
  name: string
  value: string
  values?: number[] // how it came there
  note?: ReactNode
}

export function Figure({ name, value, values, note }: Props) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <strong>{value}</strong>
        {values && values.length > 1 && <Spark values={values} />}
        {note && <small>{note}</small>}
      </dd>
    </div>
  )
}

const WIDTH = 96
const HEIGHT = 26

function Spark({ values }: { values: number[] }) {
  const [low, high] = extent([0, ...values])
  const x = linear(0, values.length - 1, 1, WIDTH - 1)
  const y = linear(low, high, HEIGHT - 2, 2)
  const d = values.map((value, n) => `${n ? 'L' : 'M'}${x(n).toFixed(1)} ${y(value).toFixed(1)}`).join('')
  return (
    <svg className="spark" width={WIDTH} height={HEIGHT} aria-hidden>
      <path className="curve" d={d} />
    </svg>
  )
}
