import { useEffect, useState } from 'react'

/** The reward from which on a rollout counts as passed. */
export function PassAt({ value, onChange }: { value: number; onChange: (value: string) => void }) {
  const [text, setText] = useState(String(value))
  useEffect(() => setText(String(value)), [value])
  const commit = () => text !== String(value) && Number.isFinite(Number(text)) && onChange(text)
  return (
    <label className="range">
      passes from
      <input
        type="number"
        step="any"
        value={text}
        style={{ width: 72 }}
        onChange={(event) => setText(event.target.value)}
        onBlur={commit}
        onKeyDown={(event) => event.key === 'Enter' && commit()}
      />
    </label>
  )
}
