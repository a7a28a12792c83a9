import { lazy, Suspense, type ReactElement } from 'react'

import { match, usePlace } from './shell/router'
import { Shell } from './shell/Shell'
import { Boundary } from './ui/Boundary'
import { Loading, Notice } from './ui/Notice'

const OverviewPage = lazy(() => import('./pages/overview/OverviewPage'))
const RolloutsPage = lazy(() => import('./pages/rollouts/RolloutsPage'))
const ComparePage = lazy(() => import('./pages/rollouts/ComparePage'))
const RolloutPage = lazy(() => import('./pages/rollout/RolloutPage'))
const GroupsPage = lazy(() => import('./pages/groups/GroupsPage'))
const GroupPage = lazy(() => import('./pages/groups/GroupPage'))
const EnvironmentsPage = lazy(() => import('./pages/environments/EnvironmentsPage'))
const EnvironmentPage = lazy(() => import('./pages/environments/EnvironmentPage'))
const TaskPage = lazy(() => import('./pages/environments/TaskPage'))
const RunsPage = lazy(() => import('./pages/runs/RunsPage'))
const RunPage = lazy(() => import('./pages/runs/RunPage'))

const PAGES: [string, (...ids: string[]) => ReactElement][] = [
  ['/', () => <OverviewPage />],
  ['/overview', () => <OverviewPage />],
  ['/rollouts', () => <RolloutsPage />],
  ['/compare', () => <ComparePage />],
  ['/rollouts/*', (id) => <RolloutPage key={id} id={id!} tab="" />],
  ['/rollouts/*/*', (id, tab) => <RolloutPage key={id} id={id!} tab={tab!} />],
  ['/groups', () => <GroupsPage />],
  ['/groups/*', (id) => <GroupPage key={id} id={id!} />],
  ['/environments', () => <EnvironmentsPage />],
  ['/environments/*', (id) => <EnvironmentPage key={id} id={id!} />],
  [
    '/tasks/*/*',
    (environment, task) => <TaskPage key={`${environment} ${task}`} environment={environment!} task={task!} />,
  ],
  ['/runs', () => <RunsPage />],
  ['/runs/*', (id) => <RunPage key={id} id={id!} />],
]

export function App() {
  const { path } = usePlace()
  return (
    <Shell>
      <Boundary key={path}>
        <Suspense fallback={<Loading what="the page" />}>
          <CurrentPage path={path} />
        </Suspense>
      </Boundary>
    </Shell>
  )
}

function CurrentPage({ path }: { path: string }) {
  for (const [pattern, page] of PAGES) {
    const ids = match(pattern, path)
    if (ids) return page(...ids)
  }
  return (
    <Notice title="There is no such page">
      <p>{path}</p>
    </Notice>
  )
}
