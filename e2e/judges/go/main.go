// Command judge says what Go thinks of each folder with tls.crt, tls.key, ca.crt and a server's name in `name`:
// `ok FOLDER` or `refused FOLDER: why`. First crypto/x509, then a TLS handshake with the certificate on both sides.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	for _, folder := range os.Args[1:] {
		if err := judge(folder); err != nil {
			fmt.Printf("refused %s: %v\n", folder, err)
		} else {
			fmt.Printf("ok %s\n", folder)
		}
	}
}

func judge(folder string) error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	if err != nil {
		return err
	}
	name, err := os.ReadFile(filepath.Join(folder, "name"))
	if err != nil {
		return err
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return errors.New("ca.crt holds no certificate")
	}
	for _, der := range pair.Certificate[1:] {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		intermediates.AddCert(certificate)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return err
	}
	server := strings.TrimSpace(string(name))
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		options := x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, DNSName: server, KeyUsages: []x509.ExtKeyUsage{usage},
		}
		if _, err := leaf.Verify(options); err != nil {
			return err
		}
	}
	return handshake(pair, roots, server)
}

func handshake(pair tls.Certificate, roots *x509.CertPool, name string) error {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		return err
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() { served <- echo(listener) }()
	client, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", listener.Addr().String(), &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: name,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := client.Write([]byte{42}); err != nil {
		return err
	}
	// With TLS 1.3 a server's refusal of the client arrives only here.
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		return err
	}
	return <-served
}

func echo(listener net.Listener) error {
	connection, err := listener.Accept()
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	_, err = io.CopyN(connection, connection, 1)
	return err
}
