{{/* The labels by which the objects find the pods. They cannot change between two versions of the chart. */}}
{{- define "taskwell.selector" -}}
app.kubernetes.io/name: taskwell
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "taskwell.labels" -}}
{{ include "taskwell.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What the pods of the service and of the migration have in common. They meet the standard "restricted":
     https://kubernetes.io/docs/concepts/security/pod-security-standards/ */}}
{{- define "taskwell.pod" -}}
automountServiceAccountToken: false
# Otherwise a service named "taskwell" would set the variable TASKWELL_PORT, which is not a setting, in every pod.
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.certificates }}
volumes:
  - name: certificates
    secret:
      secretName: {{ . }}
{{- end }}
{{- end }}

{{- define "taskwell.container" -}}
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- if .Values.certificates }}
volumeMounts:
  - name: certificates
    mountPath: /etc/taskwell/certificates
    readOnly: true
{{- end }}
env:
  {{- range $name, $value := .Values.settings }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  - name: TASKWELL_METRICS_PORT
    value: {{ .Values.metricsPort | quote }}
envFrom:
  - secretRef:
      name: {{ .Values.secret }}
{{- end }}
