import { BOUNDS } from './columns'

const whole = (p: number): string => `${Math.round(p * 100)}`

function label(level: number): string {
  if (level === 0) return `≥ ${whole(BOUNDS[0]!)} %`
  if (level === BOUNDS.length) return `< ${whole(BOUNDS.at(-1)!)} %`
  return `${whole(BOUNDS[level]!)}–${whole(BOUNDS[level - 1]!)} %`
}

/** What the colours mean: the probability under the distribution that a token was sampled from. */
export function Legend() {
  return (
    <ul className="legend" aria-label="Colours of tokens">
      <li>sampled with probability</li>
      {[...BOUNDS, 0].map((bound, level) => (
        <li key={bound}>
          <span className={`t p${level}`}>{label(level)}</span>
        </li>
      ))}
      <li>
        <span className="t p0 frozen">not trained</span>
      </li>
      <li>
        <span className="t context">context</span>
      </li>
    </ul>
  )
}
