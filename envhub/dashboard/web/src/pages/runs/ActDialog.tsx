import { useMutation, useQueryClient } from '@tanstack/react-query'
import { useState } from 'react'

import type { ApiError } from '../../api/request'
import type { RunDetail } from '../../api/types'
import { Ask } from '../../ui/Ask'
import { NOTHING_CHOSEN, send, WORDS, type Act, type Choice, type PauseMode } from './acts'
import { ScopeFields } from './ScopeFields'

interface Props {
  detail: RunDetail
  act: Act
  onDone: (said: string) => void
  onClose: () => void
}

/** What the act needs to know, and the run's name typed to confirm it. */
export function ActDialog({ detail, act, onDone, onClose }: Props) {
  const client = useQueryClient()
  const run = detail.run.run_id
  const words = WORDS[act]
  const [choice, setChoice] = useState(NOTHING_CHOSEN)
  const change = (changes: Partial<Choice>) => setChoice((known) => ({ ...known, ...changes }))
  const { mutate, error, isPending } = useMutation<{ done: string }, ApiError>({
    mutationFn: () => send(run, act, choice),
    onSuccess: async ({ done }) => {
      await client.invalidateQueries()
      onDone(done)
    },
  })
  return (
    <Ask
      title={words.title}
      action={words.button.slice(0, -1)}
      danger={words.danger ?? false}
      typed={run}
      problem={error?.message}
      busy={isPending}
      onDo={() => mutate()}
      onClose={onClose}
    >
      <p>{words.says}</p>
      {act === 'pause' && <Mode value={choice.mode} onChange={(mode) => change({ mode })} />}
      {act === 'resume' && (
        <label className="check">
          <input
            type="checkbox"
            checked={choice.pinned}
            onChange={(event) => change({ pinned: event.target.checked })}
          />
          <span>Turns that were cut end under the version that they began with</span>
        </label>
      )}
      {act === 'limit' && (
        <label>
          <span>Rollouts at once, at most</span>
          <input
            type="number"
            min="1"
            required
            value={choice.running}
            onChange={(event) => change({ running: event.target.value })}
          />
        </label>
      )}
      {act === 'cancel' && (
        <label>
          <span>Group</span>
          <input
            required
            value={choice.group}
            placeholder={`${run}-0`}
            autoComplete="off"
            spellCheck={false}
            onChange={(event) => change({ group: event.target.value })}
          />
        </label>
      )}
      {words.scoped && <ScopeFields detail={detail} scope={choice.scope} onChange={(scope) => change({ scope })} />}
    </Ask>
  )
}

function Mode({ value, onChange }: { value: PauseMode; onChange: (mode: PauseMode) => void }) {
  return (
    <label>
      <span>A generation that runs</span>
      <select value={value} onChange={(event) => onChange(event.target.value as PauseMode)}>
        <option value="cut">ends; its tokens stay, and the turn goes on from them</option>
        <option value="keep">stays in the engine and is waited for</option>
        <option value="wait">goes on to its end; the next is held</option>
      </select>
    </label>
  )
}
