import { REPORT_MS, useLive } from '../../api/live'
import { useApi } from '../../api/queries'
import type { TaskReport } from '../../api/types'
import { Histogram } from '../../charts/Bars'
import { VersionCharts } from '../../charts/VersionCharts'
import { PageHead } from '../../shell/PageHead'
import { environmentUrl, Link, rolloutsUrl, rolloutUrl, usePlace } from '../../shell/router'
import { count, mean, share } from '../../text/format'
import { LongText } from '../../text/SafeText'
import { oneLine } from '../../text/visible'
import { Reward } from '../../ui/Facts'
import { Ready } from '../../ui/Notice'
import { RunChoice } from '../../ui/RunChoice'
import { MessageBody } from '../rollout/Message'
import { RolloutTable } from '../rollouts/RolloutTable'
import { PassAt } from './PassAt'

/** One task: how it is learned, and what is answered to it. */
export function TaskPage({ environment, task }: { environment: string; task: string }) {
  const place = usePlace()
  const run = place.get('run')
  const passAt = Number(place.get('pass_at')) || 1
  useLive('/api/events', REPORT_MS)
  const asked = useApi('/api/tasks/report', { environment: [environment], task, run, pass_at: passAt }, { keep: true })
  return (
    <>
      <PageHead
        title={oneLine(task, 120)}
        crumbs={[
          ['Environments', '/environments'],
          [oneLine(environment), environmentUrl(environment, run)],
        ]}
        actions={
          <>
            <PassAt value={passAt} onChange={(value) => place.set({ pass_at: value })} />
            <RunChoice all="All runs" value={run} onChange={(chosen) => place.set({ run: chosen })} />
            <Link className="action" href={rolloutsUrl({ environment, task, run })}>
              Rollouts
            </Link>
          </>
        }
      />
      <Ready of={asked} what={`the report of ${task}`}>
        {(report) => <Report report={report} />}
      </Ready>
    </>
  )
}

function Report({ report }: { report: TaskReport }) {
  const all = report.responses.reduce((sum, response) => sum + response.count, 0)
  return (
    <div className="grid">
      <section className="panel half">
        <h2>Prompt</h2>
        {report.prompt.map((message, n) => (
          <article key={n} className={`message ${message.role}`}>
            <h3>{message.role}</h3>
            <MessageBody message={message} />
          </article>
        ))}
        {report.answer != null && (
          <>
            <h3 className="muted answer-head">Answer</h3>
            <LongText
              text={typeof report.answer === 'string' ? report.answer : JSON.stringify(report.answer, null, 2)}
              mono
            />
          </>
        )}
      </section>
      <section className="panel half">
        <h2>Rewards</h2>
        <Histogram label="Rollouts by reward" of={report.reward} color="--tool" />
      </section>
      <VersionCharts versions={report.versions} />
      <section className="panel">
        <h2>
          Answers <small>the same text counted together</small>
        </h2>
        {report.responses.length === 0 ? (
          <p className="muted">None so far.</p>
        ) : (
          <div className="table-frame">
            <table>
              <thead>
                <tr>
                  <th scope="col">Answer</th>
                  <th scope="col" className="number">
                    Count
                  </th>
                  <th scope="col" className="number">
                    Share
                  </th>
                  <th scope="col" className="number">
                    Mean reward
                  </th>
                </tr>
              </thead>
              <tbody>
                {report.responses.map((response) => (
                  <tr key={response.example}>
                    <td className="message-cell">
                      <Link href={rolloutUrl(response.example)}>{oneLine(response.text, 200) || 'nothing'}</Link>
                    </td>
                    <td className="number">{count(response.count)}</td>
                    <td className="number">{share(response.count / Math.max(1, all))}</td>
                    <td className="number">
                      <Reward value={response.mean_reward} write={mean} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </section>
      <section>
        <h2 className="above">Newest rollouts</h2>
        <RolloutTable rollouts={report.rollouts} />
      </section>
    </div>
  )
}
