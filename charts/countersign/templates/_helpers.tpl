{{/* Name of the Deployment and its fellows. */}}
{{- define "countersign.name" -}}
{{- default "countersign" .Values.nameOverride -}}
{{- end }}

{{- define "countersign.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end }}

{{- define "countersign.serviceAccountName" -}}
{{- default (include "countersign.name" .) .Values.serviceAccount.name -}}
{{- end }}

{{/* As a CEL list; the schema keeps quotes out of audiences. */}}
{{- define "countersign.tokenAudiences" -}}
['{{ join "', '" .Values.tokenAudiences }}']
{{- end }}

{{/* What the operator's pods are found by; never changes within the life of a release. */}}
{{- define "countersign.selectorLabels" -}}
app.kubernetes.io/name: {{ include "countersign.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{/*
managed-by is "Helm". It must never be "countersign": the fence tells the operator's own Secrets by
that value, and the canary must not look like one. checks.yaml keeps commonLabels away from it.
*/}}
{{- define "countersign.ownLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "countersign.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: countersign
{{- end }}

{{- define "countersign.labels" -}}
{{ include "countersign.ownLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "countersign.image" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry -}}
{{- $name := printf "%s/%s" $registry .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $name }}@{{ .Values.image.digest }}
{{- else -}}
{{ $name }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{- define "countersign.imagePullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The flags that the chart sets, by name; extraArgs may not set them a second time. */}}
{{- define "countersign.flags" -}}
operator-namespace: {{ include "countersign.namespace" . | quote }}
service-account: {{ include "countersign.serviceAccountName" . | quote }}
cluster-domain: {{ .Values.clusterDomain | quote }}
token-audiences: {{ join "," .Values.tokenAudiences | quote }}
node-blocks: {{ .Values.dataPlane.nodeBlocks | quote }}
concurrency: {{ .Values.concurrency | toString | quote }}
drift-interval: {{ .Values.driftInterval | quote }}
log-level: {{ .Values.log.level | quote }}
log-format: {{ .Values.log.format | quote }}
lease-name: {{ .Values.leaderElection.leaseName | quote }}
lease-duration: {{ .Values.leaderElection.leaseDuration | quote }}
lease-grace: {{ .Values.leaderElection.grace | quote }}
metrics-address: {{ printf ":%v" .Values.metrics.port | quote }}
probe-address: ":8081"
{{- end }}

{{/*
What a ServiceAccount mount would hold, with a token that lives ten minutes instead of an hour, and
only in the containers that mount it.
*/}}
{{- define "countersign.apiAccessVolume" -}}
name: api-access
projected:
  sources:
  - serviceAccountToken:
      path: token
      expirationSeconds: {{ .Values.apiToken.expirationSeconds }}
      {{- with .Values.apiToken.audience }}
      audience: {{ . | quote }}
      {{- end }}
  - configMap:
      name: kube-root-ca.crt
      items:
      - key: ca.crt
        path: ca.crt
  - downwardAPI:
      items:
      - path: namespace
        fieldRef:
          fieldPath: metadata.namespace
{{- end }}

{{- define "countersign.apiAccessMount" -}}
name: api-access
mountPath: /var/run/secrets/kubernetes.io/serviceaccount
readOnly: true
{{- end }}
