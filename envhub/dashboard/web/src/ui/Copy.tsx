import { Check, Copy as CopyIcon } from 'lucide-react'
import { useState } from 'react'

/** Puts a text on the clipboard, and says so. */
export function Copy({ text, what }: { text: () => string; what: string }) {
  const [done, setDone] = useState(false)
  const copy = async () => {
    await navigator.clipboard.writeText(text())
    setDone(true)
    window.setTimeout(() => setDone(false), 1500)
  }
  const label = done ? 'Copied' : `Copy ${what}`
  return (
    <button className="icon" aria-label={label} title={label} onClick={() => void copy()}>
      {done ? <Check size={15} /> : <CopyIcon size={15} />}
    </button>
  )
}
