import type { Segment } from '../../../api/types'
import { duration } from '../../../text/format'
import { oneLine } from '../../../text/visible'
import { KINDS } from './kinds'

const WIDTH = 250

/** What is known of the segment under the pointer. */
export function BarCard({ bar, x, y }: { bar: Segment; x: number; y: number }) {
  const left = Math.min(x + 12, window.innerWidth - WIDTH - 12)
  const { label, color } = KINDS[bar.kind]
  return (
    <div className="tip bar-card" style={{ left, top: y + 16, width: WIDTH }}>
      <b>
        <i style={{ background: `var(${color})` }} /> {label} {duration(bar.end - bar.start)}
      </b>
      {bar.label && <p>{oneLine(bar.label, 120)}</p>}
      <p className="muted">
        from {duration(bar.start)} to {duration(bar.end)}
        {bar.turn >= 0 && `, turn ${bar.turn}`}
        {bar.critical && ', on the critical path'}
      </p>
    </div>
  )
}
