import { useState } from 'react'

import type { RunDetail, Session } from '../../api/types'
import { ActDialog } from './ActDialog'
import { ACTS, WORDS, type Act } from './acts'

/** What an operator may do to the run that the server plays. Each act is confirmed, and recorded. */
export function Controls({ detail, session }: { detail: RunDetail; session: Session }) {
  const [act, setAct] = useState<Act | null>(null)
  const [done, setDone] = useState('')
  if (session.live_run !== detail.run.run_id) return null
  if (session.role !== 'operator')
    return <p className="muted below-head">You may look. To pause, limit or drain it takes an operator’s token.</p>
  return (
    <>
      <div className="controls" role="group" aria-label="Control of the run">
        {ACTS.map((name) => (
          <button key={name} onClick={() => (setDone(''), setAct(name))}>
            {WORDS[name].button}
          </button>
        ))}
        <span className="good" role="status">
          {done}
        </span>
      </div>
      {act && (
        <ActDialog
          key={act}
          detail={detail}
          act={act}
          onDone={(said) => (setDone(said), setAct(null))}
          onClose={() => setAct(null)}
        />
      )}
    </>
  )
}
