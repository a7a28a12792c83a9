/** The small parts that a rollout is shown with everywhere. */

import type { CSSProperties, ReactNode } from 'react'

import type { RolloutSummary } from '../api/types'
import { decimal, duration, fullMoment, moment } from '../text/format'
import { oneLine } from '../text/visible'

type Ended = Pick<RolloutSummary, 'status' | 'truncated_by' | 'failure' | 'failure_message' | 'requeued'>

export function StatusChip({ of, why = true }: { of: Ended; why?: boolean }) {
  const status = of.status ?? 'running'
  const reason = of.truncated_by || of.failure || (of.requeued ? 'queued again' : '')
  return (
    <span className={`chip ${status}`} title={oneLine(of.failure_message) || undefined}>
      {status} {why && reason && <small>{oneLine(reason, 24)}</small>}
    </span>
  )
}

/** A reward, coloured from 0 (bad) to 1 (good); rewards outside that range take the nearer end's colour. */
export function Reward({ value, write = decimal }: { value: number | null; write?: (value: number) => string }) {
  if (value === null)
    return (
      <span className="muted" title="no valid score">
        –
      </span>
    )
  const part = Math.min(1, Math.max(0, value))
  return (
    <span className="reward" style={{ '--share': `${part * 100}%` } as CSSProperties}>
      {write(value)}
    </span>
  )
}

export function Moment({ at }: { at: number }) {
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={fullMoment(at)}>
      {moment(at)}
    </time>
  )
}

export function Duration({ of, now }: { of: RolloutSummary; now: number }) {
  const text = duration(Math.max(0, (of.ended_at ?? now) - of.started_at))
  return of.ended_at === null ? <span className="muted">{text} so far</span> : <>{text}</>
}

export function Facts({ children }: { children: ReactNode }) {
  return <dl className="facts">{children}</dl>
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  )
}
