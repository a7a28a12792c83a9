import type { Columns } from './columns'
import { legendOf, type Mode } from './colors'

export function Legend({ mode, columns }: { mode: Mode; columns: Columns }) {
  return (
    <ul className="legend" aria-label="Colours of tokens">
      {legendOf(mode, columns).map(([look, text]) => (
        <li key={look + text}>
          <span className={`t ${look}`}>{text}</span>
        </li>
      ))}
      {mode === 'logprob' && (
        <li>
          <span className="t p0 frozen">not trained</span>
        </li>
      )}
    </ul>
  )
}
