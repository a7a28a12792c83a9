import '@fontsource-variable/inter/wght.css'
import '@fontsource-variable/jetbrains-mono/wght.css'

import { QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'

import { ApiError } from './api/request'
import { App } from './App'
import { listenToKeys } from './shell/keys'
import { applyTheme } from './shell/theme'
import './styles/base.css'
import './styles/shell.css'
import './styles/parts.css'
import './styles/charts.css'
import './styles/lists.css'
import './styles/rollout.css'
import './styles/tokens.css'

const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      refetchOnWindowFocus: false, // the live stream tells of changes
      retry: (tries, error) => tries < 2 && error instanceof ApiError && error.status === 0,
    },
  },
})

applyTheme()
listenToKeys()
createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <QueryClientProvider client={client}>
      <App />
    </QueryClientProvider>
  </StrictMode>,
)
