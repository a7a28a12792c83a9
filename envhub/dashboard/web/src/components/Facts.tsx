/** The small parts that both pages show a rollout with. */

import type { CSSProperties } from 'react'

import { decimal, duration, fullMoment, moment } from '../format'
import type { LiveState } from '../hooks'
import type { RolloutSummary } from '../types'

export function StatusChip({ of }: { of: RolloutSummary }) {
  const status = of.status ?? 'running'
  const why = of.truncated_by || of.failure || (of.requeued ? 'queued again' : '')
  return (
    <span className={`chip ${status}`} title={of.failure_message || undefined}>
      {status}
      {why && <small> {why}</small>}
    </span>
  )
}

/** A reward, coloured from 0 (bad) to 1 (good); rewards outside that range take the nearer end's colour. */
export function Reward({ value }: { value: number | null }) {
  if (value === null)
    return (
      <span className="muted" title="no valid score">
        –
      </span>
    )
  const share = Math.min(1, Math.max(0, value))
  return (
    <span className="reward" style={{ '--share': `${share * 100}%` } as CSSProperties}>
      {decimal(value)}
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
  const running = of.ended_at === null
  const text = duration(Math.max(0, (of.ended_at ?? now) - of.started_at))
  return running ? <span className="muted">{text} so far</span> : <>{text}</>
}

const LIVE_TEXT: Record<LiveState, string> = { connecting: 'Connecting', live: 'Live', lost: 'Reconnecting' }

export function LiveDot({ state }: { state: LiveState }) {
  return (
    <span className={`live-dot ${state}`} role="status">
      {LIVE_TEXT[state]}
    </span>
  )
}
