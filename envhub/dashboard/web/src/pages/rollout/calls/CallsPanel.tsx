import { useApi } from '../../../api/queries'
import type { Call } from '../../../api/types'
import { useKeys } from '../../../shell/keys'
import { usePlace } from '../../../shell/router'
import { count, duration } from '../../../text/format'
import { oneLine } from '../../../text/visible'
import { Notice, Ready } from '../../../ui/Notice'
import { CallView } from './CallView'

/** Every model call: what was asked and answered on the wire, beside what envhub made of it. */
export function CallsPanel({ id }: { id: string }) {
  const asked = useApi('/api/rollouts/{rollout_id}/calls', { rollout_id: id })
  return (
    <Ready of={asked} what="the calls">
      {(calls) => (calls.length === 0 ? <Notice title="No model call was made" /> : <View id={id} calls={calls} />)}
    </Ready>
  )
}

function View({ id, calls }: { id: string; calls: Call[] }) {
  const place = usePlace()
  const at = Math.max(
    0,
    calls.findIndex((call) => String(call.turn) === place.get('turn')),
  )
  const open = (n: number) => {
    const call = calls[Math.max(0, Math.min(calls.length - 1, n))]!
    place.set({ turn: call.turn })
  }
  useKeys('Calls', [
    { keys: 'j', does: 'Next call', run: () => open(at + 1) },
    { keys: 'k', does: 'Previous call', run: () => open(at - 1) },
  ])
  return (
    <div className="calls">
      <ol className="call-list" aria-label="Calls">
        {calls.map((call, n) => (
          <li key={call.turn}>
            <button aria-pressed={n === at} onClick={() => open(n)}>
              <span>
                turn {call.turn} {call.fork && <small className="warn">{call.fork.replaceAll('_', ' ')}</small>}
              </span>
              <small>
                {duration(Math.max(0, call.ended_at - call.started_at))}, {count(call.sampled_tokens)} tokens
              </small>
              <small>{oneLine(call.policy_id, 30)}</small>
            </button>
          </li>
        ))}
      </ol>
      <CallView id={id} turn={calls[at]!.turn} />
    </div>
  )
}
