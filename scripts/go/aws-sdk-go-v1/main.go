// A client of the AWS SDK for Go v1 for tests: the default credential chain, and what tests ask with its credentials.
//
//	aws-sdk-go-v1 whoami             the caller's ARN
//	aws-sdk-go-v1 credentials        access key id, secret and session token
//	aws-sdk-go-v1 token CLUSTER      a token for a cluster, as kubectl's plugins make it
package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/sts"
)

func main() {
	text, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(text)
}

func run(args []string) (string, error) {
	options := session.Options{SharedConfigState: session.SharedConfigEnable}
	// This version of the SDK does not read the variable itself.
	if endpoint := os.Getenv("AWS_ENDPOINT_URL"); endpoint != "" {
		options.Config.Endpoint = aws.String(endpoint)
	}
	session, err := session.NewSessionWithOptions(options)
	if err != nil {
		return "", err
	}
	client := sts.New(session)
	switch {
	case len(args) == 1 && args[0] == "whoami":
		who, err := client.GetCallerIdentity(&sts.GetCallerIdentityInput{})
		if err != nil {
			return "", err
		}
		return aws.StringValue(who.Arn), nil
	case len(args) == 1 && args[0] == "credentials":
		credentials, err := session.Config.Credentials.Get()
		if err != nil {
			return "", err
		}
		return credentials.AccessKeyID + " " + credentials.SecretAccessKey + " " + credentials.SessionToken, nil
	case len(args) == 2 && args[0] == "token":
		request, _ := client.GetCallerIdentityRequest(&sts.GetCallerIdentityInput{})
		request.HTTPRequest.Header.Add("x-k8s-aws-id", args[1])
		url, err := request.Presign(time.Minute)
		if err != nil {
			return "", err
		}
		return "k8s-aws-v1." + base64.RawURLEncoding.EncodeToString([]byte(url)), nil
	}
	return "", fmt.Errorf("usage: %s whoami | credentials | token CLUSTER", os.Args[0])
}
