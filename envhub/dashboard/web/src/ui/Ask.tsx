import { useState, type ReactNode } from 'react'

import { Modal } from './Modal'

interface Props {
  title: string
  children: ReactNode
  action: string
  danger?: boolean
  typed: string // what must be typed before it can be done
  problem: string | undefined
  busy: boolean
  onDo: () => void
  onClose: () => void
}

/** Asks before something is done to a run. */
export function Ask({ title, children, action, danger = false, typed, problem, busy, onDo, onClose }: Props) {
  const [text, setText] = useState('')
  const sure = text === typed
  return (
    <Modal title={title} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          if (sure && !busy) onDo()
        }}
      >
        {children}
        <label>
          <span>
            Type <code>{typed}</code> to confirm
          </span>
          <input value={text} autoComplete="off" spellCheck={false} onChange={(event) => setText(event.target.value)} />
        </label>
        {problem && (
          <p className="bad" role="alert">
            {problem}
          </p>
        )}
        <div className="dialog-foot">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className={danger ? 'danger' : 'primary'} disabled={!sure || busy}>
            {action}
          </button>
        </div>
      </form>
    </Modal>
  )
}
