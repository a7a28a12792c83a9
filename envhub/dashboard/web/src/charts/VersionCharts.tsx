import type { VersionPoint } from '../api/types'
import { brief, decimal, share } from '../text/format'
import { LineChart } from './LineChart'

/** Reward and length over the versions of the policy. */
export function VersionCharts({ versions }: { versions: VersionPoint[] }) {
  const xs = versions.map((point) => point.version)
  const of = (name: keyof VersionPoint) => versions.map((point) => point[name])
  return (
    <>
      <section className="panel half">
        <h2>
          Reward <small>over policy versions, with its deviation</small>
        </h2>
        <LineChart
          label="Reward over policy versions"
          xs={xs}
          series={[
            {
              name: 'mean reward',
              color: '--accent',
              values: of('mean_reward'),
              spread: versions.map((v) => (v.reward_std ?? 0) / 2),
            },
            { name: 'pass rate', color: '--tool', values: of('pass_rate') },
          ]}
          xText={(x) => `v${Math.round(x)}`}
          yText={(y) => decimal(y, 2)}
          from={0}
          to={1}
        />
      </section>
      <section className="panel half">
        <h2>
          Length <small>sampled tokens a rollout</small>
        </h2>
        <LineChart
          label="Length over policy versions"
          xs={xs}
          series={[{ name: 'mean tokens', color: '--environment', values: of('mean_tokens') }]}
          xText={(x) => `v${Math.round(x)}`}
          yText={(y) => brief(y)}
          from={0}
        />
      </section>
    </>
  )
}

/** Shares that did not end well, over versions. */
export function TroubleChart({ versions }: { versions: VersionPoint[] }) {
  const part = (name: 'truncated' | 'failed') => versions.map((point) => point[name] / Math.max(1, point.rollouts))
  return (
    <LineChart
      label="Truncated and failed over policy versions"
      xs={versions.map((point) => point.version)}
      series={[
        { name: 'truncated', color: '--warn', values: part('truncated') },
        { name: 'failed', color: '--bad', values: part('failed') },
      ]}
      xText={(x) => `v${Math.round(x)}`}
      yText={(y) => share(y, 1)}
      from={0}
    />
  )
}
