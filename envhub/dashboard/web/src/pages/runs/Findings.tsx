import { useState } from 'react'

import { useApi } from '../../api/queries'
import type { Finding } from '../../api/types'
import { Link } from '../../shell/router'
import { plural } from '../../text/format'
import { SafeText } from '../../text/SafeText'
import { Loading, Problem } from '../../ui/Notice'

const LOOKS: Record<Finding['severity'], string> = { serious: 'failed', warning: 'truncated', info: 'info' }

/** What the audit finds: looked for when asked, as it reads a good part of the run. */
export function Findings({ run }: { run: string }) {
  const [wanted, setWanted] = useState(false)
  const { data, error, isFetching } = useApi('/api/runs/{run_id}/findings', { run_id: run }, { enabled: wanted })
  return (
    <section className="panel below" aria-label="Findings">
      <div className="panel-head">
        <h2>
          Findings{' '}
          <small>
            {data
              ? `in ${plural(data.rollouts, 'rollout')}, of which ${data.sampled.toLocaleString('en')} were read`
              : 'waste, bias, and rewards that are not earned'}
          </small>
        </h2>
        {!wanted && <button onClick={() => setWanted(true)}>Audit the run</button>}
      </div>
      {error && <Problem error={error} />}
      {wanted && !data && isFetching && <Loading what="what the audit finds" />}
      {data && data.findings.length === 0 && <p className="good">Nothing stands out.</p>}
      {data && data.findings.length > 0 && (
        <ul className="findings">
          {data.findings.map((finding, n) => (
            <li key={n}>
              <span className={`chip ${LOOKS[finding.severity]}`}>{finding.severity}</span>
              <span>
                <SafeText text={finding.message} />
              </span>
              {finding.page && <Link href={finding.page}>Look at it</Link>}
            </li>
          ))}
        </ul>
      )}
    </section>
  )
}
