/** What an operator may do to a run. */

import { post } from '../../api/client'
import type { Scope } from '../../api/types'

export const ACTS = ['pause', 'resume', 'limit', 'drain', 'cancel', 'abort'] as const
export type Act = (typeof ACTS)[number]
export type PauseMode = 'cut' | 'keep' | 'wait'

interface Words {
  button: string
  title: string
  says: string
  danger?: boolean // what it ends does not come back
  scoped?: boolean // may be for a part of the run
}

export const WORDS: Record<Act, Words> = {
  pause: {
    button: 'Pause…',
    title: 'Pause the run',
    says: 'Rollouts are held before their next model call.',
    scoped: true,
  },
  resume: {
    button: 'Resume…',
    title: 'Resume the run',
    says: 'Rollouts that are held go on from the tokens that they have. Name the scope that was paused.',
    scoped: true,
  },
  limit: {
    button: 'Limit…',
    title: 'Limit the run',
    says: 'At most as many rollouts run at once; more than that end first.',
  },
  drain: {
    button: 'Drain…',
    title: 'Drain the run',
    says: 'No more groups are taken; those that were submitted go on to their end.',
    danger: true,
  },
  cancel: {
    button: 'Cancel group…',
    title: 'Cancel a group',
    says: 'All its rollouts end now, and none of it is delivered to a trainer.',
    danger: true,
  },
  abort: {
    button: 'Abort rollouts…',
    title: 'Abort rollouts',
    says: 'They end now as cancelled, with all that they have recorded. With no field filled in: every rollout of the run.',
    danger: true,
    scoped: true,
  },
}

export interface Choice {
  mode: PauseMode
  pinned: boolean
  running: string
  group: string
  scope: Scope
}

export const NOTHING_CHOSEN: Choice = {
  mode: 'cut',
  pinned: false,
  running: '256',
  group: '',
  scope: { environment_id: null, policy_id: null, group_id: null, rollout_id: null },
}

export function send(run: string, act: Act, choice: Choice): Promise<{ done: string }> {
  const values = { run_id: run }
  const { mode, pinned, running, group, scope } = choice
  switch (act) {
    case 'pause':
      return post('/api/runs/{run_id}/pause', values, { confirm: run, mode, scope })
    case 'resume':
      return post('/api/runs/{run_id}/resume', values, { confirm: run, pinned, scope })
    case 'limit':
      return post('/api/runs/{run_id}/limit', values, { confirm: run, max_running: Number(running) })
    case 'drain':
      return post('/api/runs/{run_id}/drain', values, { confirm: run })
    case 'cancel':
      return post('/api/runs/{run_id}/cancel', values, { confirm: run, group_id: group.trim() })
    case 'abort':
      return post('/api/runs/{run_id}/abort', values, { confirm: run, scope })
  }
}
